"""Settings changed at random: a run can be built of them, or each fault is one line with its key."""

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataseg_hf.errors import ConfigError, SettingsError
from dataseg_hf.settings.parsing import parse_settings
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training.folder import RunFolder
from dataseg_hf.training.preparation import build_run, start_accelerator
from helpers.mutations import mutated_json
from helpers.run_programs import SETTINGS
from helpers.thoroughness import fuzzed

Seeds = st.integers(0, 2**32 - 1)
BASE: dict[str, Any] = {**SETTINGS, "output_dir": "outputs/fuzzed", "check_samples": 1}


def parsed(seed: int) -> RunConfig | None:
    """The settings of a mutation; None where they are refused, as they must be."""
    changed = mutated_json(BASE, random.Random(seed))
    if not isinstance(changed, dict):
        return None  # a file without a mapping is refused before
    try:
        return parse_settings(RunConfig, {"my.yaml": changed})
    except SettingsError as error:
        for line in error.lines:
            assert "\n" not in line
            assert len(line) < 2000
            assert line.removeprefix("my.yaml: ").partition(":")[0].strip()
    return None


@fuzzed(300, 3000)
@given(seed=Seeds)
def test_every_fault_of_settings_is_a_line_with_its_key(seed: int) -> None:
    parsed(seed)


@pytest.mark.slow
@fuzzed(40, 600)
@given(seed=Seeds)
@example(seed=0)
@example(seed=1232)  # an embedding whose length is no number
@example(seed=591042)  # a backbone with fewer depths than stages
def test_settings_that_pass_build_a_run_or_are_refused_in_a_line(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    # what may be built need not fill this machine
    monkeypatch.setattr("dataseg_hf.settings.model.MAX_PARAMETERS", 10**7)
    config = parsed(seed)
    if config is None:
        return
    small = {
        name: entry.model_copy(update={"count": min(entry.count or 8, 8)})
        for name, entry in config.datasets.items()
    }
    config = config.model_copy(update={"datasets": small, "torch_compile": None})
    try:
        build_run(config, RunFolder(config.output_dir), start_accelerator(config))
    except ConfigError as error:
        for line in str(error).splitlines():
            assert len(line) < 2000
            assert ":" in line
