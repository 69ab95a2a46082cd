"""The shell lines of the pages, run in this process: what a reader types, without a new interpreter
for each line.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState

from helpers.paths import ROOT

SET_UP = (["hf", "auth", "login"], ["pip", "install"], ["git", "clone"])
"""Beginnings of lines that are not run: they need a network, or set up what the tests themselves
run in.
"""
LONG = re.compile(r"cotrain|train_with_trainer|benchmarks")
"""Programs that take minutes or hours unless their line is made smaller."""


class UnknownLineError(AssertionError):
    """A line that nothing here knows how to run."""


@dataclass(frozen=True)
class Smaller:
    """What lets a test run a line that would take long.

    Args:
        pattern: regular expression, found in the line.
        arguments: added to the line, where they win.
        reason: why.
    """

    pattern: str
    arguments: str
    reason: str


@dataclass
class Shell:
    """Runs lines in a folder that stands for the root of the checkout.

    Args:
        folder: the working folder.
        smaller: of every long program.
        placeholders: words of the pages that stand for a reader's own, such as MODEL, and what they
            are here.
        variables: of the shell; exported ones also reach the programs.
    """

    folder: Path
    smaller: Sequence[Smaller]
    placeholders: Mapping[str, str]
    variables: dict[str, str] = field(default_factory=dict)
    exported: dict[str, str] = field(default_factory=dict)

    def run(self, line: str) -> tuple[int, str]:
        """Exit code and output of one line; UnknownLineError for one that cannot be run."""
        words = [
            self._value(self.placeholders.get(word, word))
            for word in shlex.split(line, comments=True)
        ]
        if any(words[: len(start)] == start for start in SET_UP):
            return 0, ""
        if words[0] == "export" or re.fullmatch(r"\w+=\S*", line.strip()):
            return self._assign(words)
        program, *arguments = [Path(words[0]).name, *words[1:]]
        if program == "make":
            return self._make(arguments)
        if program == "accelerate" and arguments[:1] == ["launch"]:
            return self._launch(arguments[1:])
        if program in ("python", "python3"):
            return self._python(arguments)
        if program == "dataseg":
            return self._module("dataseg_hf", arguments)
        raise UnknownLineError(
            f"no test knows how to run `{line}`: teach tests/helpers/docs_commands.py, or mark it "
            "as `text`"
        )

    def _value(self, word: str) -> str:
        """A word with its variables replaced, those in single quotes included: no page has such."""

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            known = {**os.environ, **self.variables}
            if name not in known:
                raise UnknownLineError(f"`{word}` names a variable that no line before it sets")
            return known[name]

        return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, word)

    def _assign(self, words: Sequence[str]) -> tuple[int, str]:
        values = dict(word.split("=", 1) for word in words if word != "export")
        if "..." in values.values():
            raise UnknownLineError(
                f"`{' '.join(words)}`: say in PLACEHOLDERS of docs_smaller.py what it is"
            )
        self.variables |= values
        if words[0] == "export":
            self.exported |= values
        return 0, ""

    def _make(self, arguments: Sequence[str]) -> tuple[int, str]:
        """What make would do: its training runs are run, its other programs have tests of their
        own.
        """
        # without what a `make test-full ARGS=...` around this test hands on
        outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "CONFIG")
        environment = {name: value for name, value in os.environ.items() if name not in outer}
        done = subprocess.run(
            ["make", "-n", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return done.returncode, done.stderr
        for line in done.stdout.splitlines():
            if "examples/" in line:
                return self.run(line)
        return 0, done.stdout

    def _launch(self, arguments: Sequence[str]) -> tuple[int, str]:
        """The options as Accelerate reads them; then the script, on one process whatever they ask
        for.
        """
        options = launch_command_parser().parse_args(list(arguments))
        if options.config_file is not None:
            load_config_from_file(options.config_file)
        run = self._module if options.module else self._script
        return run(options.training_script, options.training_script_args)

    def _python(self, arguments: Sequence[str]) -> tuple[int, str]:
        if arguments[:2] == ["-m", "pytest"]:
            return self._pytest(arguments[2:])
        if arguments[0] == "-m":
            return self._module(arguments[1], arguments[2:])
        return self._script(arguments[0], arguments[1:])

    def _module(self, module: str, arguments: Sequence[str]) -> tuple[int, str]:
        name = " ".join(["-m", module, *(arguments[:1] if module == "dataseg_hf" else [])])
        return self._program(name, module, arguments)

    def _script(self, script: str, arguments: Sequence[str]) -> tuple[int, str]:
        return self._program(script, ROOT / script, arguments)

    def _pytest(self, arguments: Sequence[str]) -> tuple[int, str]:
        """Part of this very suite: that there is a test of the name is enough."""
        options = [word for word in arguments if word.endswith(".py")]
        wanted = arguments[arguments.index("-k") + 1] if "-k" in arguments else ""
        found = [
            f
            for f in options
            if re.search(rf"^def test_\w*{wanted}", (ROOT / f).read_text(), re.MULTILINE)
        ]
        return (0, "") if found else (4, f"no test `{wanted}` in {options}")

    def _program(self, name: str, code: str | Path, arguments: Sequence[str]) -> tuple[int, str]:
        """A script (a path) or module (its name) with its arguments, and what makes it small
        enough.
        """
        added = smaller_arguments(self.smaller, name, arguments)
        with self._process([name, *arguments, *added]) as output:
            try:
                if isinstance(code, Path):
                    runpy.run_path(str(code), run_name="__main__")
                else:
                    runpy.run_module(code, run_name="__main__", alter_sys=True)
                status: object = 0
            except SystemExit as end:
                status = end.code
        return (
            status if isinstance(status, int) else 0 if status is None else 1
        ), output.getvalue()

    @contextmanager
    def _process(self, arguments: list[str]) -> Iterator[StringIO]:
        """Folder, environment, arguments and output of a process; what Accelerate shares is neither
        taken nor left.
        """
        output = StringIO()
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            with (
                pytest.MonkeyPatch.context() as patch,
                redirect_stdout(output),
                redirect_stderr(output),
            ):
                patch.chdir(self.folder)
                patch.setattr(sys, "argv", arguments)
                for name, value in self.exported.items():
                    patch.setenv(name, value)
                yield output
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)


def smaller_arguments(
    smaller: Sequence[Smaller], program: str, arguments: Sequence[str]
) -> list[str]:
    """What to add to a line so that it is run in seconds; UnknownLineError for a long program that
    nothing makes smaller.
    """
    line = " ".join([program, *arguments])
    found = [entry for entry in smaller if re.search(entry.pattern, line)]
    if LONG.search(program) and not found:
        raise UnknownLineError(
            f"`{line}` may take long: add how a test runs it to SMALLER in docs_smaller.py"
        )
    return [word for entry in found for word in shlex.split(entry.arguments)]


def lines_of(text: str) -> list[str]:
    """The lines of a shell block, each whole, without empty ones and comments."""
    return [
        line
        for line in _joined(text).splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]


def transcript(text: str) -> list[tuple[str, str]]:
    """(line, output) of a block in which `$ ` stands before what is typed."""
    parts = re.split(r"^\$ ", _joined(text), flags=re.MULTILINE)
    if parts[0].strip() or len(parts) == 1:
        raise UnknownLineError(
            "a `console` block begins with `$ ` and a line to run; what is only output is `text`"
        )
    return [(line, output) for line, _, output in (part.partition("\n") for part in parts[1:])]


def _joined(text: str) -> str:
    """Lines that end in a backslash joined with the next."""
    return re.sub(r"\s*\\\n\s*", " ", text)


def says(output: str, promised: str, numbers: bool) -> bool:
    """Whether an output is the promised one, in which a line `...` stands for any lines; progress
    bars do not count.

    Args:
        numbers: whether the digits must agree too.
    """

    def comparable(line: str) -> str:
        return line.rstrip() if numbers else re.sub(r"\d", "0", line.rstrip())

    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(comparable(line)) + "\n"
        for line in promised.splitlines()
    )
    lines = output.removesuffix("\n").split("\n") if output else []
    lasting = [line for line in lines if "\r" not in line]
    given = "".join(comparable(line) + "\n" for line in lasting)
    return re.fullmatch(pattern, given) is not None
