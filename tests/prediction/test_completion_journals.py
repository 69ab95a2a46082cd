"""Journals of a completion."""

from pathlib import Path

import pytest

from dataseg_hf.errors import ConfigError
from dataseg_hf.prediction.completion.journals import JOURNAL_FILE, Journals
from dataseg_hf.prediction.labeling.journal import Batch, Journal, LabeledImage


def test_a_completion_of_an_earlier_version_is_not_gone_on_with(tmp_path: Path) -> None:
    image = LabeledImage("a", "{}", {}, None, 4, 0.0)
    Journal(tmp_path / JOURNAL_FILE).add(Batch([image]))
    with pytest.raises(ConfigError, match=r"begun by an earlier version.*name another folder"):
        Journals(tmp_path)
