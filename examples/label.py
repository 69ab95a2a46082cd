"""Label photographs with an existing model, as a dataset for a mix: `dataseg label`.

python examples/label.py --teacher nvidia/segformer-b0-finetuned-ade-512-512 --images photos \
    --output labels/scenes
python examples/label.py --teacher hustvl/yolos-tiny --images photos --output labels/objects \
    --threshold 0.7
"""

import sys

from dataseg_hf.commands.label import main

if __name__ == "__main__":
    sys.exit(main())
