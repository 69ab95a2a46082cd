"""Train one DaTaSeg model on a mix of datasets: `dataseg cotrain`.

accelerate launch examples/cotrain.py                                  # the embedded shapes world
accelerate launch examples/cotrain.py --config photos --output_dir outputs/photos
"""

import sys

from dataseg_hf.commands.cotrain import main

if __name__ == "__main__":
    sys.exit(main())
