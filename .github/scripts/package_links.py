"""Point the package's page at the repository: its README shows links that lead nowhere elsewhere.

python .github/scripts/package_links.py https://github.com/OWNER/NAME COMMIT

Makes the relative links of README.md absolute, to the files of that commit, and puts the addresses
of the repository into setup.cfg. Meant for a checkout from which packages are built and which is
thrown away.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?P<image>!?)(?P<text>\[[^\]]*\])\((?![a-z]+:|#)(?P<target>[^)\s]+)\)")


def absolute_links(text: str, repository: str, commit: str) -> str:
    """A page of Markdown whose relative links lead to the repository's files of a commit."""

    def absolute(link: re.Match[str]) -> str:
        view = "raw" if link["image"] else "blob"
        return f"{link['image']}{link['text']}({repository}/{view}/{commit}/{link['target']})"

    return LINK.sub(absolute, text)


def with_project_urls(setup: str, repository: str) -> str:
    """The text of setup.cfg with the addresses of the repository in its metadata."""
    urls = {
        "Source": repository,
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
    }
    lines = [f"    {name} = {url}" for name, url in urls.items()]
    return setup.replace("[metadata]\n", "\n".join(["[metadata]", "project_urls =", *lines, ""]), 1)


def main(repository: str, commit: str, root: Path = ROOT) -> None:
    """Change both files.

    Args:
        root: of the checkout.
    """
    readme, setup = root / "README.md", root / "setup.cfg"
    text = absolute_links(readme.read_text(encoding="utf-8"), repository, commit)
    readme.write_text(text, encoding="utf-8")
    setup.write_text(with_project_urls(setup.read_text("utf-8"), repository), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
