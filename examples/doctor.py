"""Look for mistakes in the annotation of a run's datasets with a model: `dataseg doctor`.

python examples/doctor.py --model outputs/shapes --config shapes --output outputs/suggestions
"""

import sys

from dataseg_hf.commands.doctor import main

if __name__ == "__main__":
    sys.exit(main())
