"""Score a model on the held-out sets of a config: `dataseg evaluate`.

python examples/evaluate.py --model outputs/shapes --config shapes
accelerate launch examples/evaluate.py --model outputs/shapes --config shapes --metrics all \
    --datasets shapes_boxes shapes_open --output_dir outputs/shapes_scores --flip --export

Settings of the sets can be overridden as in training: --evaluation.shapes_open.threshold 0.5
"""

import sys

from dataseg_hf.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
