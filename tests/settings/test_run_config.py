"""Settings: read, overridden, refused with the path of the key and what is allowed."""

from pathlib import Path

import pytest

from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.settings.paths import expand
from helpers.paths import ROOT

HEAD = "output_dir: out\ntext_encoder: {kind: hashed_ngrams}\n"
GOOD = HEAD + "datasets:\n  a: {spec: shapes_panoptic, reader: shapes}\n"


def parse(tmp_path: Path, text: str, *arguments: str):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return parse_run_config(["--config", str(file), *arguments], "unused.yaml")


def test_command_line_overrides_the_file(tmp_path: Path) -> None:
    config = parse(
        tmp_path,
        GOOD + "max_steps: 5\n",
        "--max_steps",
        "7",
        "--datasets.a.ratio",
        "3",
        "--resume=latest",
    )
    assert config.max_steps == 7
    assert config.datasets["a"].ratio == 3.0
    assert config.resume == "latest"


def test_without_config_the_default_file_is_read() -> None:
    config = parse_run_config(["--max_steps", "3"], ROOT / "src/dataseg_hf/configs/shapes.yaml")
    assert list(config.datasets) == ["shapes_panoptic", "shapes_semantic", "shapes_boxes"]
    assert config.max_steps == 3


@pytest.mark.parametrize("name", ["shapes", "photos"])
def test_the_shipped_configs_are_valid(name: str) -> None:
    config = parse_run_config(
        ["--config", str(ROOT / f"src/dataseg_hf/configs/{name}.yaml")], "unused.yaml"
    )
    assert config.output_dir == f"outputs/{name}"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (
            GOOD + "max_stepss: 3\n",
            [],
            r"run\.yaml: max_stepss: unknown option; did you mean 'max_steps'\?$",
        ),
        (
            HEAD + "datasets: {a: {spec: s, reader: shapes, ratios: 3}}\n",
            [],
            r"datasets\.a\.ratios: unknown option; did you mean 'ratio'\?$",
        ),
        (
            HEAD + "datasets: {a: {spec: s, missing_images: maybe}}\n",
            [],
            r"datasets\.a\.missing_images: .* is not allowed; choose",
        ),
        (
            HEAD + "datasets: {a: {spec: {task: semantic}}}\n",
            [],
            r"datasets\.a\.spec\.classes: is required",
        ),
        (
            HEAD + "datasets: {a: {spec: {task: x, classes: []}}}\n",
            [],
            r"datasets\.a\.spec\.task: 'x' is not allowed",
        ),
        (
            HEAD + "datasets: {a: {spec: {task: boxes, classes: [{ids: [1]}]}}}\n",
            [],
            r"spec\.classes\.0\.name: is required",
        ),
        (
            HEAD + "datasets: {a: {spec: s, probability: 0}}\n",
            [],
            r"datasets\.a\.probability: must be positive, not 0",
        ),
        (
            HEAD + "datasets: {a: {spec: s, ratio: -1}}\n",
            [],
            r"datasets\.a\.ratio: must be positive, not -1",
        ),
        (
            HEAD + "datasets: {a: {spec: s, probability: 0.4}, b: {spec: s, probability: 0.5}}\n",
            [],
            r"add up to 0\.9, not 1",
        ),
        (
            HEAD + "datasets: {a: {spec: s, probability: 0.4}, b: {spec: s}}\n",
            [],
            r"datasets\.b: has no probability",
        ),
        (
            HEAD + "datasets: {a: {spec: s, probability: 0.4}, b: {spec: s, ratio: 1}}\n",
            [],
            r"datasets\.b\.ratio: other",
        ),
        (GOOD + "size_temperature: 0\n", [], r"size_temperature: must be positive"),
        (
            HEAD + "datasets: {a: {spec: s, ratio: 2}}\nsize_temperature: 2\n",
            [],
            r"datasets\.a: has a share",
        ),
        (HEAD + "datasets: {a: {reader: shapes}}\n", [], r"datasets\.a\.spec: is required"),
        (
            HEAD + "datasets: {a: {spec: s, reader: shapes, ratio: -3}}\n",
            [],
            r"datasets\.a\.ratio: must be positive",
        ),
        (HEAD + "datasets: {}\n", [], r"datasets: the mix is empty"),
        (
            HEAD + "datasets: {a: {spec: s, max_samples: x}}\n",
            [],
            r"run\.yaml: datasets\.a\.max_samples: must be a whole number, not 'x'$",
        ),
        (
            HEAD + "datasets: {a: {spec: {task: boxes, classes: [{name: b, ids: 3}]}}}\n",
            [],
            r"run\.yaml: datasets\.a\.spec\.classes\.0\.ids: must be a list, e\.g\. \[a, b\], not 3$",
        ),
        (
            GOOD + "model: {hiden_dim: 3}\n",
            [],
            r"model\.hiden_dim: unknown option; did you mean 'hidden_dim'\?$",
        ),
        (
            GOOD + "evaluation: {e: {spec: s, reader: shapes, vocabulary: b}}\n",
            [],
            r"evaluation\.e\.vocabulary: 'b'",
        ),
        (
            GOOD + "default_vocabulary: b\n",
            [],
            r"default_vocabulary: 'b' is no entry of datasets \['a'\]",
        ),
        (GOOD, ["--max_minutes", "0"], r"max_minutes: must be positive, not 0"),
        (GOOD + "max_minutes: .nan\n", [], r"max_minutes: must be a finite number, not nan"),
        (GOOD, ["--num_threads", "0"], r"num_threads: must be positive"),
        (GOOD, ["--num_pictures", "-1"], r"^--num_pictures: must be 0 or more, not -1"),
        (GOOD, ["--backbone_lr_factor", "-1"], r"^--backbone_lr_factor: must be 0 or more, not -1"),
        (GOOD, ["--adam_betas", "[0.9, 1]"], r"^--adam_betas\.1: must be below 1, not 1"),
        (GOOD, ["--image_std", "[1, 0, 1]"], r"^--image_std\.1: must be positive, not 0"),
        (GOOD, ["--max_steps", "0"], r"max_steps: must be positive"),
        (GOOD, ["--max_steps", "many"], r"max_steps: 'many' is no duration"),
        (GOOD, ["--bogus", "1"], r"^--bogus: unknown option; allowed are \['--adam_betas', "),
        (
            GOOD,
            ["--max_stepps", "1"],
            r"^--max_stepps: unknown option; did you mean '--max_steps'\?$",
        ),
        (GOOD, ["--confg", "x"], r"^--confg: unknown option; did you mean '--config'\?$"),
        (GOOD + "datasets: [\n", [], r"run\.yaml' is no valid YAML"),
        ("- a list\n", [], r"must hold a mapping"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(
    tmp_path: Path, text: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        parse(tmp_path, text, *arguments)
    assert "\n" not in str(refusal.value)


def test_a_missing_config_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read 'nowhere\.yaml'"):
        parse_run_config(["--config", "nowhere.yaml"], "unused.yaml")


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n", GOOD.encode("utf-16"), "name: größe".encode("latin-1")]
)
def test_a_config_in_another_encoding_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.yaml' is no text in UTF-8; save it as UTF-8$"):
        parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml")


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(GOOD, encoding="utf-8-sig")
    assert parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml").output_dir


def test_paths_expand_environment_variables_and_miss_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert expand("${SOMEWHERE}/x", "key") == "/data/x"
    with pytest.raises(ConfigError, match=r"datasets\.a\.images: .*NOWHERE.* is not set"):
        expand("$NOWHERE/x", "datasets.a.images")
