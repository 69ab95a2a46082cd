"""Export a checkpoint for use without Python, and check the file: `dataseg export`.

python examples/export.py --model outputs/shapes --output shapes.onnx
python examples/export.py --model outputs/photos --output photos.pt2 --size 512 512 --static_batch
"""

import sys

from dataseg_hf.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
