"""Train one DaTaSeg model on a mix of datasets.

accelerate launch examples/cotrain.py                                  # the embedded shapes world
accelerate launch examples/cotrain.py --config examples/configs/photos.yaml \
    --output_dir outputs/photos
"""

import signal
import sys
from pathlib import Path

from dataseg_hf.data.sample import BadSampleError
from dataseg_hf.errors import ConfigError
from dataseg_hf.messages import show_messages
from dataseg_hf.settings.parsing import config_files, parse_run_config
from dataseg_hf.sharing.publishing import PublishError
from dataseg_hf.training.failures import DataError, DivergedError
from dataseg_hf.training.run import run
from dataseg_hf.training.signals import StopRequested
from dataseg_hf.training.state import SaveError

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "shapes.yaml"


def main() -> int:
    """Exit code 0 when the run ended or SIGTERM stopped it with its state saved, 130 when SIGINT
    did.

    2 for settings or data that cannot work; 1 when training diverged, or something could not be
    loaded, written or published.
    """
    show_messages()
    try:
        run(parse_run_config(sys.argv[1:], DEFAULT_CONFIG), config_files(sys.argv[1:]))
    except (ConfigError, BadSampleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error.__cause__, BadSampleError) else 1
    except (DivergedError, PublishError, SaveError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except StopRequested as stop:
        print(f"{stop}; go on with --resume latest", file=sys.stderr)
        return 130 if stop.number == signal.SIGINT else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
