"""What the code of a checkpoint needs: importing this says so in an older environment, before
anything else fails.
"""

from transformers.utils.versions import require_version

OLDEST_TRANSFORMERS = "5.18"

require_version(
    f"transformers>={OLDEST_TRANSFORMERS}",
    "DaTaSeg's code is newer than your transformers: pip install -U "
    f"'transformers>={OLDEST_TRANSFORMERS}'",
)

__all__ = ["OLDEST_TRANSFORMERS"]
