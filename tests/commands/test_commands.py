"""`dataseg COMMAND`: what it answers without torch, the ready configs, the spelling of options."""

import json
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dataseg_hf.commands import COMMANDS, main
from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.ready_configs import (
    CONFIGS,
    config_file,
    ready_configs,
    with_config_files,
)
from dataseg_hf.version import __version__
from helpers.example_scripts import EXAMPLES
from helpers.paths import ROOT

HEAVY = {"torch", "transformers", "datasets", "pyarrow", "pandas", "accelerate", "scipy", "sympy"}
"""Packages that take seconds to import, together or alone."""
HEAVY |= {"matplotlib", "gradio"}
SETTINGS = {"pydantic", "yaml", "huggingface_hub", "httpx"}
"""Packages that only commands with a run's settings need, or with the Hub."""
WITHOUT = """
import sys
for name in {names}:
    sys.modules[name] = None  # importing it fails
from dataseg_hf.commands import main
sys.exit(main(sys.argv[1:]))
"""


def without_torch(*arguments: str, also: Collection[str] = ()) -> subprocess.CompletedProcess[str]:
    """A command in a process where importing torch, what else is HEAVY, or what is `also` named
    fails.
    """
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=sorted({*HEAVY, *also})), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_no_torch(command: str) -> None:
    done = without_torch(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    if command == "cotrain":  # the settings of a run, which have a parser of their own
        assert "--learning_rate" in done.stdout
    else:
        assert done.stdout.startswith(f"usage: dataseg {command}".rstrip())


def test_the_list_of_commands_needs_no_package_but_ours() -> None:
    done = without_torch("--help", also={*SETTINGS, "numpy", "PIL", "tqdm"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: dataseg COMMAND")


def test_metrics_need_no_torch(tmp_path: Path) -> None:
    truth, found = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 0, 0, 1]], np.uint8)
    for name, classes in (("gt", truth), ("pred", found)):
        (tmp_path / name).mkdir()
        Image.fromarray(classes).save(tmp_path / name / "a.png")
    folders = ["--gt_dir", str(tmp_path / "gt"), "--pred_dir", str(tmp_path / "pred")]
    done = without_torch(
        "metrics", "semantic", *folders, "--num_classes", "2", "--json", also=SETTINGS
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    modules = {file.stem for file in (Path(main.__code__.co_filename).parent).glob("*.py")}
    assert set(COMMANDS) <= modules
    for name, does in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(does)}$", text, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"dataseg-hf {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["train"], ["--model", "x"]])
def test_unknown_commands_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "dataseg: error: " in capsys.readouterr().err


@pytest.mark.parametrize("task", ["instance", "instances"])
def test_hyphens_mean_underscores(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--gt-json", "no-such-file.json", "--pred-json=a-b.json", "--max-dets=20"]
    assert main(["metrics", task, *arguments]) == 2
    assert "no-such-file.json: no such file" in capsys.readouterr().err


def test_every_option_is_explained_and_spelled_with_underscores(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in (
        "metrics panoptic",
        "metrics instance",
        "predict",
        "label",
        "evaluate",
        "probe",
        "publish",
    ):
        with pytest.raises(SystemExit, match="0"):
            main([*command.split(), "--help"])
        options = capsys.readouterr().out.partition("options:")[2]
        described = re.findall(r"^  (--\S+)[^\n]*\n?(?: {5,}[^\n]*)?", options, re.MULTILINE)
        assert described
        assert not [name for name in described if "-" in name[2:]]
        for line in re.findall(r"^  --[^\n]*\n[^\n]*", options, re.MULTILINE):
            assert re.search(r" {2,}\w", line[4:]), line  # words beside the option or below it


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (["predict", "--treshold", "0.3"], "'--threshold' instead of '--treshold'?"),
        (["evaluate", "--modle", "x"], "'--model' instead of '--modle'?"),
        (["metrics", "instance", "--gt_jsn=x"], "'--gt_json' instead of '--gt_jsn'?"),
    ],
)
def test_a_misspelled_option_gets_a_guess(
    arguments: list[str], guess: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.endswith(f"; did you mean {guess}\n")


def test_an_abbreviation_and_a_missing_option_get_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "--mod", "x", "--output", "y"])
    assert "did you mean" not in capsys.readouterr().err


def test_a_misspelled_option_of_a_probe_gets_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--stride", "3"]) == 2
    error = "error: --stride: unknown option; did you mean '--strides'?\n"
    assert capsys.readouterr().err == error


# --- ready configs --------------------------------------------------------------------------------


def test_ready_configs_are_files_of_the_package() -> None:
    assert {"shapes", "photos", "published"} <= set(ready_configs())
    for name in ready_configs():
        assert config_file(name) == str(CONFIGS / f"{name}.yaml")
        assert "evaluation" in yaml.safe_load(Path(config_file(name)).read_text())


def test_a_path_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("missing.yaml", "a/shapes", "./shapes", str(tmp_path / "shapes")):
        assert config_file(text) == text
    Path("shapes").write_text("seed: 1")  # a file comes before a ready config of its name
    assert config_file("shapes") == "shapes"


def test_an_unknown_name_is_refused_with_the_ready_ones() -> None:
    ready = ", ".join(ready_configs())
    with pytest.raises(ConfigError, match=f"'shape' and no ready config.*ready are {ready}"):
        config_file("shape")


def test_both_ways_of_naming_a_config_are_resolved() -> None:
    shapes, photos = config_file("shapes"), config_file("photos")
    given = ["--config", "shapes", "--seed", "1", "--config=photos", "--best_metric", "shapes"]
    assert with_config_files(given) == [
        *("--config", shapes, "--seed", "1", f"--config={photos}", "--best_metric", "shapes")
    ]


@pytest.mark.parametrize("command", ["cotrain", "inspect", "evaluate", "probe"])
def test_commands_refuse_an_unknown_config(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "x"] if command == "evaluate" else []
    assert main([command, *model, "--config", "shape"]) == 2
    assert capsys.readouterr().err.startswith("error: --config: there is no file 'shape'")


# --- examples -------------------------------------------------------------------------------------


def test_examples_only_call_their_commands() -> None:
    callers = {file.stem: file.read_text() for file in EXAMPLES.glob("*.py")}
    del callers["train_with_trainer"]  # no command: an example of its own
    called = {
        re.findall(r"^from dataseg_hf\.commands\.(\w+) import main$", text, re.MULTILINE)[0]
        for text in callers.values()
    }
    assert called == set(COMMANDS) - {"metrics", "probe"}
    assert all(len(text.partition('"""\n\n')[2].splitlines()) <= 6 for text in callers.values())
