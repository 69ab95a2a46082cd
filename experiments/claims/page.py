"""Fill the tables of `docs/claims.md` and check its sentences; README.md explains its comments."""

import re
from statistics import fmean

from experiments.claims.results import Results

TABLE = re.compile(r"(<!-- table: ([^>]*) -->\n+(?:\|.*\n){2})((?:\|.*\n)+)")
ROW = re.compile(r"\| (.*?`([^`]+)`[^|]*?) \|")
NOTE = re.compile(r"<!-- claim: (.*?) -->", re.DOTALL)
COMPARISON = re.compile(r"(\S+) ([<=>]) (\S+) in (.+)")
NOT_PROSE = re.compile(r"^```.*?^```|^\|.*?$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
PARAGRAPHS = re.compile(r"\n\s*\n|\n(?=- )")
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?!\w|\.\d)")
SIGNS = {">": " +", "<": " -", "=": " =", "?": ""}


def filled(page: str, results: Results) -> str:
    """The page with the cells of its tables as the results have them."""

    def fill(table: re.Match[str]) -> str:
        names = table[2].split(", ")
        rows = [match.groups() for match in ROW.finditer(table[3])]
        lines = [
            [label, *(_cell(run, rows[0][1], name, results) for name in names)]
            for label, run in rows
        ]
        return table[1] + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    return TABLE.sub(fill, page)


def _cell(run: str, first: str, name: str, results: Results) -> str:
    values = results.values(run, name)
    if not values:
        return "none" if any(run == other for other, _ in results.rows) else "missing"
    text = shown(name, fmean(values))
    if len(values) > 1:
        text += f" [{shown(name, min(values))}, {shown(name, max(values))}]"
    compared = run != first and "/" in name and not name.startswith("cosine/")
    return text + SIGNS[results.relation(run, first, name)] if compared else text


def shown(name: str, value: float) -> str:
    """A value as the page shows it: metrics in percent, cosines and plain numbers as they are."""
    if name.startswith("cosine/"):
        return f"{value:.2f}"
    if name.endswith("_bytes"):
        return f"{value / 1e6:,.1f} MB"
    return f"{100 * value:.1f}" if "/" in name else f"{value:,.15g}"


def problems(page: str, results: Results) -> list[str]:
    """What the results do not bear out: claims, list items without a claim, other numbers."""
    found = []
    for paragraph in PARAGRAPHS.split(NOT_PROSE.sub("", page)):
        text = COMMENT.sub("", paragraph).strip()
        claims = [one for note in NOTE.findall(paragraph) for one in comparisons(note)]
        for run, relation, other, name in claims:
            measured = results.relation(run, other, name)
            if measured != relation:
                found.append(f"{run} {relation} {other} in {name}: the results say {measured!r}")
        if text.startswith("- **") and not claims:
            found.append(f"no claim note: {text}")
        means = {
            shown(name, fmean(values))
            for one, _, other, name in claims
            for run in (one, other)
            if (values := results.values(run, name))
        }
        unknown = [number for number in DECIMAL.findall(text) if number not in means]
        found += [f"{number} is no mean of what the note names: {text}" for number in unknown]
    return found


def comparisons(note: str) -> list[tuple[str, str, str, str]]:
    """(run, relation, run or number, measured column) of each comparison in a claim note.

    Raises:
        ValueError: a part of the note is not written as `run > run in column, column`.
    """
    found = []
    for part in " ".join(note.split()).split("; "):
        match = COMPARISON.fullmatch(part)
        if match is None:
            raise ValueError(
                f"claim note: {part!r} is not written as `run > run in column, column`"
            )
        run, relation, other, names = match.groups()
        found += [(run, relation, other, name) for name in names.split(", ")]
    return found
