"""What the command lines share: one spelling of options, one line for an error."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any


class OptionParser(argparse.ArgumentParser):
    """An ArgumentParser whose options are spelled with underscores, as settings are.

    Hyphens instead of underscores are refused with the right spelling in the message.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As the base class, which calls it for every way of parsing."""
        for argument in sys.argv[1:] if args is None else args:
            option = argument.partition("=")[0]
            spelled = "--" + option[2:].replace("-", "_")
            known = spelled in self._option_string_actions
            if option.startswith("--") and spelled != option and known:
                self.error(f"{option} is now spelled {spelled}")
        return super().parse_known_args(args, namespace)


def report_error(error: Exception | str) -> None:
    """Print an error as one line on the standard error output."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
