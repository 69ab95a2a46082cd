"""What the command lines share: one spelling of options, one line for an error."""

import argparse
import math
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from typing import Any, NoReturn

from ..errors import SettingsError
from ..messages import shortened
from ..model.words_dataseg import parse_words
from ..settings.ready_configs import ready_configs


class OptionParser(argparse.ArgumentParser):
    """An ArgumentParser whose options are spelled with underscores, as settings are. Hyphens in
    their place mean the same, as in transformers' HfArgumentParser.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As the base class, which calls it for every way of parsing."""
        print_any_name()
        words = sys.argv[1:] if args is None else args
        self._words = [self._spelled(word) for word in words]
        return super().parse_known_args(self._words, namespace)

    def option_names(self) -> list[str]:
        """Names of the options, those of subcommands included, without dashes."""
        names = [text[2:] for text in self._option_string_actions if text.startswith("--")]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                names += [name for part in action.choices.values() for name in part.option_names()]
        return list(dict.fromkeys(names))

    def error(self, message: str) -> NoReturn:
        """As the base class, with a guess at a misspelled option."""
        super().error(message + self._guess())

    def _guess(self) -> str:
        names = self.option_names()
        given = [word[2:].partition("=")[0] for word in self._words if word.startswith("--")]
        for name in given:
            similar = get_close_matches(name, names, n=1)
            # the beginning of a name is an abbreviation
            if similar and not any(known.startswith(name) for known in names):
                return f"; did you mean '--{similar[0]}' instead of '--{name}'?"
        return ""

    def _spelled(self, word: str) -> str:
        """An option of this parser as it knows it, `--gt-json=a-b` as `--gt_json=a-b`."""
        option, equals, value = word.partition("=")
        known = "--" + option[2:].replace("-", "_")
        if option.startswith("--") and known in self._option_string_actions:
            return known + equals + value
        return word


def add_config_option(parser: argparse.ArgumentParser, part: str) -> None:
    """`--config` of a command that reads one part of a run's settings."""
    parser.add_argument(
        "--config",
        required=True,
        help=f"YAML file with `{part}`, of a training run or by itself; or a ready config: "
        f"{', '.join(ready_configs())}",
    )


def report_error(error: Exception | str, file: str = "") -> None:
    """Print an error on the standard error output: one line, or one for each wrong setting.

    Args:
        file: where the entries of `datasets` and `evaluation` stand, if that is known.
    """
    for text in error.lines if isinstance(error, SettingsError) else [str(error)]:
        place = f"{file}: " if file and text.startswith(("datasets.", "evaluation.")) else ""
        print(f"error: {place}{shortened(' '.join(text.split()))}", file=sys.stderr)


def print_any_name() -> None:
    """Let names of files that are no UTF-8 be printed, their bytes as `\\udcff`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def share(text: str) -> float:
    """A number in 0..1 from the command line.

    Raises:
        ArgumentTypeError: for any other text.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"must lie in 0..1, got {text if math.isnan(value) else value}"
        )
    return value


def vocabulary(text: str) -> str:
    """A vocabulary from the command line: its name, or words with commas.

    Raises:
        ArgumentTypeError: for a text without words.
    """
    if not parse_words(text):
        raise argparse.ArgumentTypeError(
            "names nothing; give a vocabulary of the model, or words with commas"
        )
    return text


def positive(text: str) -> int:
    """A whole number above 0 from the command line.

    Raises:
        ArgumentTypeError: for any other text.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text}")
    return int(text)
