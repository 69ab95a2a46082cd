"""What the command lines share: one spelling of options, flags, one line for an error."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_type_hints


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


def with_flags(arguments: Sequence[str], kinds: Iterable[type]) -> list[str]:
    """Arguments of which `--name` alone says `--name true`, where a setting is a boolean.

    Args:
        arguments: settings as `--key value` or `--outer.key value`.
        kinds: classes of settings; their boolean fields are those that may stand alone.
    """
    flags = {
        name
        for kind in kinds
        for name, hint in get_type_hints(kind).items()
        if hint is bool or bool in get_args(hint)
    }
    complete: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        complete.append(argument)
        name = argument.rpartition(".")[2].removeprefix("--")
        if argument.startswith("--") and name in flags and following.startswith("--"):
            complete.append("true")
    return complete


def report_error(error: Exception | str) -> None:
    """Print an error as one line on the standard error output."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
