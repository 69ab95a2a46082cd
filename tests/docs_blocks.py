"""The code blocks of the project's pages, as a reader of Markdown sees them."""

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "spaces/*/README.md")
    for page in ROOT.glob(pattern)
)


@dataclass(frozen=True)
class Block:
    """A fenced or indented block.

    Args:
        page: from the root of the checkout.
        line: where it begins (a fence, or the first line of an indented block), counted from 1.
        language: the first word behind the fence, in lower case; empty for none, and for indented blocks.
        text: without the fences.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in its order."""
    return blocks_of(page, (ROOT / page).read_text(encoding="utf-8"))


def blocks_of(page: str, text: str) -> list[Block]:
    """The blocks of a Markdown text, in its order."""
    found = []
    for token in MarkdownIt().parse(text):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            found.append(Block(page, token.map[0] + 1, (token.info.split() or [""])[0].lower(), token.content))
    return found
