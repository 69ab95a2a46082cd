"""Complete the annotation of a run's datasets with a model: `dataseg complete`.

python examples/complete.py --model outputs/shapes --config shapes --output outputs/completed
"""

import sys

from dataseg_hf.commands.complete import main

if __name__ == "__main__":
    sys.exit(main())
