"""`python -m dataseg_hf.metrics ...`, the same as `dataseg metrics ...`."""

import sys

from ..commands.metrics import main

if __name__ == "__main__":
    sys.exit(main())
