"""The help and the page of the settings hold every setting, in words."""

import sys

import pytest

from dataseg_hf.settings.base import Settings
from dataseg_hf.settings.errors import kind_in
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.settings.reference import SECTIONS, help_text, type_in_words
from dataseg_hf.settings.run import RunConfig
from helpers.paths import ROOT


def all_kinds(kind: type[Settings]) -> set[type[Settings]]:
    """A class of settings and all those inside it."""
    inner = {kind_in(field.annotation) for field in kind.model_fields.values()}
    nested = {one for one in inner if isinstance(one, type) and issubclass(one, Settings)}
    return {kind}.union(*map(all_kinds, nested))


def test_every_setting_is_explained() -> None:
    rows = {row.key.rpartition(".")[2]: row for section in SECTIONS for row in section.rows()}
    for kind in all_kinds(RunConfig):
        for name in kind.model_fields:
            assert rows[name].meaning.endswith("."), f"{kind.__name__}.{name}"
            # the site takes what stands before a colon in the first line for the type
            first_line = (kind.model_fields[name].description or "").splitlines()[0]
            assert ":" not in first_line, f"{kind.__name__}.{name}"


def test_the_page_is_fresh() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from settings_page import PAGE, page
    finally:
        sys.path.pop(0)
    assert PAGE.read_text() == page(), "run `python docs/settings_page.py`"


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_run_config(["--help"], "default.yaml")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.strip() == help_text()
    assert "--datasets.NAME.batch_size  (whole number, above 0, up to 65536; default 8)" in printed
    assert "default shapes" in printed
    for section in SECTIONS:
        for row in section.rows():
            assert f"--{row.key}  (" in printed
    assert max(map(len, printed.splitlines())) <= 140


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("max_steps", "duration"),
        ("seed", "whole number, from 0"),
        ("adam_betas", "list of 2: number, from 0, below 1"),
        ("report_to", "list of text"),
        ("schedule", "`cosine` or `linear` or `poly` or `constant`"),
        ("num_threads", "whole number, above 0, up to 1024"),
        ("datasets", "mapping of names to settings"),
    ],
)
def test_types_are_told_in_words(name: str, words: str) -> None:
    field = RunConfig.model_fields[name]
    assert type_in_words(field.annotation, field.metadata) == words
