"""Train one DaTaSeg model on a mix of datasets.

accelerate launch examples/cotrain.py                                  # the embedded shapes world
accelerate launch examples/cotrain.py --config examples/configs/photos.yaml --output_dir outputs/photos
"""

import sys
from pathlib import Path

from dataseg_hf.data.sample import BadSampleError
from dataseg_hf.run_config import ConfigError, parse_run_config
from dataseg_hf.runs import run
from dataseg_hf.training import DivergedError

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "shapes.yaml"


def main() -> int:
    """Exit code 0 when the run ended, 2 for settings or data that cannot work, 1 when training diverged."""
    try:
        run(parse_run_config(sys.argv[1:], DEFAULT_CONFIG))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BadSampleError as error:
        print(f"error: {error}", file=sys.stderr)
        print(
            "Checkpoints are kept: correct the data or set on_bad_sample to 'skip', then --resume latest",
            file=sys.stderr,
        )
        return 2
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
