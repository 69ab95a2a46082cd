"""The code blocks of the project's pages, as readers of Markdown and reStructuredText see them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from textwrap import dedent

from markdown_it import MarkdownIt

from helpers.paths import ROOT

PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "docs/**/*.rst",
        "spaces/*/README.md",
        "checkpoints/*.md",
    )
    for page in ROOT.glob(pattern)
)


@dataclass(frozen=True)
class Block:
    """A fenced, indented or literal block.

    Args:
        page: from the root of the checkout.
        line: where it begins (a fence, a directive, or the first line of an indented block),
            counted from 1.
        language: as named behind the fence or the directive, in lower case; empty for none.
        text: without fences and directives.
        file: name under which the page tells its reader to save the block; empty for none.
    """

    page: str
    line: int
    language: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return list((rst_blocks if page.endswith(".rst") else markdown_blocks)(page, text))


def markdown_blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of a Markdown text, in its order. `<!-- file: NAME -->` before a fence names it."""
    file = ""
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            named = re.fullmatch(r"<!-- file: (\S+) -->\s*", token.content)
            file = named[1] if named else ""
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            yield Block(
                page, token.map[0] + 1, (token.info.split() or [""])[0].lower(), token.content, file
            )
            file = ""


def rst_blocks(page: str, text: str) -> Iterator[Block]:
    """The `code-block`s and the literal blocks of a reStructuredText, in its order, without options
    of directives.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines):
        directive = re.fullmatch(r" *\.\. code(?:-block)?:: *(\S*)", line)
        if directive or (line.endswith("::") and not line.lstrip().startswith("..")):
            code = [one for one in _indented(lines, number) if not re.match(r" *:[\w-]+:", one)]
            language = directive[1].lower() if directive else ""
            yield Block(page, number + 1, language, dedent("\n".join(code)).strip("\n") + "\n")


def _indented(lines: list[str], number: int) -> Iterator[str]:
    """The lines below a line that stand further to the right, and empty ones."""
    deeper = " " * (len(lines[number]) - len(lines[number].lstrip()) + 1)
    return takewhile(lambda line: not line.strip() or line.startswith(deeper), lines[number + 1 :])
