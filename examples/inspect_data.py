"""Check the datasets of a run before it starts, and draw them: `dataseg inspect`.

python examples/inspect_data.py --config photos --output_dir outputs/photos
python examples/inspect_data.py --config FILE --check all --json > report.json
"""

import sys

from dataseg_hf.commands.inspect import main

if __name__ == "__main__":
    sys.exit(main())
