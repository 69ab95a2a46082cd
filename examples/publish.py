"""Publish a trained model on the Hub, in one commit: `dataseg publish`.

hf auth login
python examples/publish.py --model outputs/shapes --repo me/dataseg-shapes --dry_run
python examples/publish.py --model outputs/shapes --repo me/shapes --license apache-2.0 --space
"""

import sys

from dataseg_hf.commands.publish import main

if __name__ == "__main__":
    sys.exit(main())
