"""XML out of files that others wrote: read as a stream, refused where it could exhaust memory."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from ..sample import BadSampleError

_CHUNK = 1 << 18  # bytes
# the latter two for encodings that expat does not know
_NOT_XML = (ET.ParseError, ValueError, LookupError)


class _NoDoctype(ET.TreeBuilder):
    """Refuses a DOCTYPE before its entities are read: they can grow to gigabytes, and no annotation
    format has one.
    """

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called for a DOCTYPE, which is refused.

        Raises:
            BadSampleError: always.
        """
        raise BadSampleError(
            f"a DOCTYPE '{name}' is refused, since entities can exhaust memory; remove it"
        )


class _ChildrenOfRoot(_NoDoctype):
    """Gathers the finished children of the root instead of a tree that grows with the file."""

    def __init__(self) -> None:
        super().__init__()
        self.root_tag: str | None = None
        self.finished: list[ET.Element] = []
        self._depth = 0
        self._child = ET.TreeBuilder()

    def start(self, tag: str, attributes: dict[str, str]) -> ET.Element:
        self._depth += 1
        if self._depth == 1:
            self.root_tag = tag
            return ET.Element(tag)
        if self._depth == 2:
            self._child = ET.TreeBuilder()
        return self._child.start(tag, attributes)

    def data(self, text: str) -> None:
        if self._depth > 1:
            self._child.data(text)

    def end(self, tag: str) -> ET.Element:
        self._depth -= 1
        if self._depth == 0:
            return ET.Element(tag)
        element = self._child.end(tag)
        if self._depth == 1:
            self.finished.append(self._child.close())
        return element

    def close(self) -> ET.Element:
        return ET.Element(self.root_tag or "")


def xml_root(path: Path, root_tag: str, expected: str) -> ET.Element:
    """The root of a small XML file, with all that is in it.

    Args:
        path: the file.
        root_tag: of the format.
        expected: what the file should be, for messages.

    Raises:
        BadSampleError: for a file that is no XML, has a DOCTYPE or another root.
    """
    try:
        root = ET.parse(path, ET.XMLParser(target=_NoDoctype())).getroot()
    except BadSampleError as error:
        raise BadSampleError(f"{path}: {error}") from error
    except _NOT_XML as error:
        raise BadSampleError(f"{path}: not valid XML: {error}; correct it") from error
    if root.tag != root_tag:
        raise BadSampleError(
            f"{path}: expected <{root_tag}> at the top, not <{root.tag}>; is it {expected}?"
        )
    return root


def xml_children(path: Path, root_tag: str, expected: str) -> Iterator[ET.Element]:
    """The children of the root of an XML file, one at a time; arguments as for `xml_root`.

    Raises:
        ValueError: for a file that is no XML, has a DOCTYPE or another root.
    """
    target = _ChildrenOfRoot()
    parser = ET.XMLParser(target=target)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            _feed(parser, chunk, path)
            yield from _taken(target, path, root_tag, expected)
    _feed(parser, None, path)
    yield from _taken(target, path, root_tag, expected)


def _feed(parser: ET.XMLParser, chunk: bytes | None, path: Path) -> None:
    """Parse the next bytes of a file, None for its end."""
    try:
        if chunk is None:
            parser.close()
        else:
            parser.feed(chunk)
    except BadSampleError as error:
        raise ValueError(f"{path}: {error}") from error
    except _NOT_XML as error:
        raise ValueError(f"{path}: not valid XML ({error}); export it anew") from error


def _taken(target: _ChildrenOfRoot, path: Path, root_tag: str, expected: str) -> list[ET.Element]:
    if target.root_tag is not None and target.root_tag != root_tag:
        raise ValueError(
            f"{path}: expected <{root_tag}> at the top, not <{target.root_tag}>; is it {expected}?"
        )
    finished, target.finished = target.finished, []
    return finished
