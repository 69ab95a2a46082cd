"""`python -m dataseg_hf COMMAND ...`, the same as `dataseg COMMAND ...`."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
