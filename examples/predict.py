"""Segment images and write what was found: `dataseg predict`.

python examples/predict.py --model outputs/shapes --input photo.jpg folder/ "more/**/*.png" \
    --output predictions
python examples/predict.py --model outputs/shapes --input photo.jpg --output predictions \
    --task semantic --vocabulary "cat, dog, grass"
python examples/predict.py --model outputs/shapes --input folder/ --output predictions \
    --annotations labelme cvat_xml
python examples/predict.py --model outputs/shapes --input aerial.tif --output predictions \
    --tile 640 --tile_overlap 0.25
"""

import sys

from dataseg_hf.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
