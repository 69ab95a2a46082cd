"""Settings from YAML and the command line: what a text means, and what is said of wrong ones."""

from pathlib import Path

import pytest

from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.errors import RENAMED
from dataseg_hf.settings.parsing import config_files, parse_run_config
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.settings.yaml_text import read_value, read_yaml

GOOD = """output_dir: out
text_encoder: {kind: hashed_ngrams}
datasets:
  a: {spec: shapes_panoptic, reader: shapes}
"""


def parse(tmp_path: Path, text: str, *arguments: str) -> RunConfig:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return parse_run_config(["--config", str(file), *arguments], "unused.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E3", 2e3),
        (".5", 0.5),
        ("1_000", 1000),
        ("007", "007"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("2026-11-28", "2026-11-28"),
        ("12:30", "12:30"),
        ("0x10", 16),
        ("-3", -3),
        ("null", None),
        ("[a, 1e1]", ["a", 10.0]),
        ("{a: no}", {"a": "no"}),
        ("'1'", "1"),
    ],
)
def test_a_text_means_what_its_reader_takes_it_for(text: str, value: object) -> None:
    for found in (read_value(text), read_yaml(f"key: {text}")["key"]):
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize("text", ["a #5", "#5", "[open", "@revision", ""])
def test_what_is_no_yaml_is_the_text_itself(text: str) -> None:
    assert read_value(text) == text


def test_merged_keys_of_yaml_are_no_duplicates() -> None:
    read = read_yaml("base: &b {x: 1, y: 2}\nother: {<<: *b, x: 3}\n")
    assert read["other"] == {"x": 3, "y": 2}


def test_a_key_that_stands_twice_is_refused_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'seed' stands there twice; keep one .* line 5"):
        parse(tmp_path, GOOD + "seed: 1\nseed: 2\n")


@pytest.mark.parametrize(
    ("place", "entry", "old"),
    [
        ("datasets.a", "{spec: s, %s: 0.2}", "colour_jitter"),
        ("datasets.a.spec", "{spec: {task: boxes, classes: [], %s: x}}", "licence"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(
    tmp_path: Path, place: str, entry: str, old: str
) -> None:
    """In the file and on the command line; that of a reader's option in test_sources.py."""
    new = RENAMED[old]
    wanted = rf"{place}\.{old}: is now called '{new}'; rename it$"
    with pytest.raises(ConfigError, match=rf"run\.yaml: {wanted}"):
        parse(tmp_path, GOOD.replace("{spec: shapes_panoptic, reader: shapes}", entry % old))
    head = GOOD.replace("{spec: shapes_panoptic, reader: shapes}", entry % new)
    with pytest.raises(ConfigError, match=f"^--{wanted}"):
        parse(tmp_path, head, f"--{place}.{old}", "0.2")


def test_a_bare_key_is_true_and_a_value_may_follow(tmp_path: Path) -> None:
    assert parse(tmp_path, GOOD, "--dry_run").dry_run
    assert parse(tmp_path, GOOD, "--dry_run", "--max_steps", "3").dry_run
    assert not parse(tmp_path, GOOD + "dry_run: true\n", "--dry_run", "false").dry_run
    config = parse(tmp_path, GOOD, "--datasets.a.keep_in_memory", "--datasets.a.seed", "-1")
    assert config.datasets["a"].keep_in_memory
    assert config.datasets["a"].seed == -1


@pytest.mark.parametrize("key", ["max_steps", "learning_rate", "output_dir", "datasets.a.ratio"])
def test_a_key_that_is_no_flag_needs_a_value(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^--{key}: needs a value$"):
        parse(tmp_path, GOOD, f"--{key}", "--dry_run")


def test_a_text_that_looks_like_a_number_stays_a_text_where_one_is_wanted(tmp_path: Path) -> None:
    config = parse(tmp_path, GOOD, "--output_dir", "2017", "--datasets.a.images=1e3")
    assert (config.output_dir, config.datasets["a"].images) == ("2017", "1e3")
    with pytest.raises(ConfigError, match=r"output_dir: must be text, not 2017; put it in quotes"):
        parse(tmp_path, GOOD.replace("out\n", "2017\n"))


def test_values_inside_options_and_the_model_keep_their_types(tmp_path: Path) -> None:
    config = parse(
        tmp_path, GOOD, "--model.backbone_config.tf_padding", "--datasets.a.options.n.m", "1e-3"
    )
    assert config.model == {"backbone_config": {"tf_padding": True}}
    assert config.datasets["a"].options == {"n": {"m": 1e-3}}


def test_every_error_has_its_line_with_key_and_file(tmp_path: Path) -> None:
    text = GOOD + "seed: x\nevaluation: {e: {spec: s, metrics: [pqq, pq]}}\n"
    with pytest.raises(ConfigError) as refusal:
        parse(tmp_path, text, "--datasets.a.ratio", "0", "--log_every", "true")
    file = tmp_path / "run.yaml"
    assert str(refusal.value).splitlines() == [
        "--datasets.a.ratio: must be positive, not 0",
        f"{file}: evaluation.e.metrics.0: 'pqq' is not allowed; choose from 'pq', 'miou', "
        "'mask_ap' or 'box_ap'",
        f"{file}: seed: must be a whole number, not 'x'",
        "--log_every: must be a whole number, not True",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ratio: true", r"datasets\.a\.ratio: must be a number, not true$"),
        ("scale_range: [2, 1]", r"scale_range: must be \[low, high\] with 0 < low <= high"),
        ("horizontal_flip: 2", r"horizontal_flip: must be at most 1, not 2"),
        ("part: [3, 2]", r"part: must be \[k, n\] with 0 <= k < n, not \[3, 2\]"),
        ("options: 3", r"options: must be a mapping"),
    ],
)
def test_values_out_of_range_are_refused_before_any_data(
    tmp_path: Path, text: str, message: str
) -> None:
    entry = "{spec: shapes_panoptic, " + text + "}"
    with pytest.raises(ConfigError, match=message):
        parse(tmp_path, GOOD.replace("{spec: shapes_panoptic, reader: shapes}", entry))


def test_no_value_can_stand_inside_a_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--datasets\.a\.spec\.task: there is no 'task' in"):
        parse(tmp_path, GOOD, "--datasets.a.spec.task", "boxes")


def test_a_later_file_replaces_keys_of_an_earlier_one(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("max_steps: 7\n")
    assert parse(tmp_path, GOOD + "seed: 3\nmax_steps: 5\n", f"--config={other}").max_steps == 7
    assert config_files(["--config", "a", "--seed", "1", "--config=b"]) == ["a", "b"]


def test_what_is_no_setting_on_the_command_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'epochs' is no setting; .* spaces in quotes"):
        parse(tmp_path, GOOD, "--max_steps", "3", "epochs")
