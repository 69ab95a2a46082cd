"""The claims: that the grid's settings are valid, that it goes on where it stopped, that the page
says its numbers.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from benchmarks.claims import gpu, report, runner
from benchmarks.claims.conflict import cosines, measured_conflict
from benchmarks.claims.grid import DROP, RUNS, SEEDS, composed, merged
from benchmarks.claims.reading import READING, Comparison, Sentence
from benchmarks.claims.report import Claims, gathered, page, write_report
from benchmarks.claims.results import RESULTS, Result, Summary, digest, read, write
from benchmarks.claims.runner import Grid, train_missing
from benchmarks.claims.tables import PQ, TABLES

from dataseg_hf.settings.parsing import parse_run_config
from helpers.paths import ROOT

DOCS = ROOT / "docs"
PUBLISHED = json.loads((DOCS / "claims.json").read_text())


# --- the grid


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_a_valid_configuration(name: str, tmp_path: Path) -> None:
    settings = composed(RUNS[name], 2, str(tmp_path / "out"), start=None)
    assert DROP not in yaml.safe_dump(settings)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    config = parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml")
    assert config.seed == 2
    assert config.num_threads == 1


def test_changes_reach_what_they_name_and_nothing_else() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merged(base, {"a": {"b": DROP, "e": None}, "d": [2]}) == {
        "a": {"c": 2, "e": None},
        "d": [2],
    }
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_part_of_the_mix_and_of_the_steps() -> None:
    alone, third = (composed(RUNS[f"alone_boxes{suffix}"], 0, "out") for suffix in ("", "_third"))
    assert list(alone["datasets"]) == ["shapes_boxes"]
    assert third["max_steps"] == round(alone["max_steps"] / 3)
    assert list(alone["evaluation"]) == [
        "shapes_panoptic",
        "shapes_semantic",
        "shapes_boxes",
        "shapes_open",
    ]


def test_every_row_of_every_table_is_a_run() -> None:
    assert {run for table in TABLES.values() for _, run in table.rows} <= set(RUNS)


@pytest.mark.parametrize("name", gpu.TRAINED)
def test_the_runs_for_a_gpu_are_valid_and_larger(name: str, tmp_path: Path) -> None:
    settings = gpu.larger(
        composed(RUNS[name], 0, str(tmp_path / "out")), steps=4000, side=512, mixed_precision="bf16"
    )
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    config = parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml")
    entries = [*config.datasets.values(), *config.evaluation.values()]
    assert {entry.image_size for entry in entries} == {512}
    assert (config.max_steps, config.mixed_precision, config.num_threads) == (4000, "bf16", None)


def test_cosines_of_gradients_by_hand() -> None:
    east, north, west = (
        torch.tensor([2.0, 0.0]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([-3.0, 0.0]),
    )
    halves = {"a": [{"head": east}, {"head": north}], "b": [{"head": west}, {"head": west}]}
    # with itself: one half against the other; two sets: the mean over their halves
    assert cosines(halves, "head") == pytest.approx(
        {"a and itself": 0.0, "b and itself": 1.0, "a and b": -0.5}
    )


def test_without_the_models_no_gradients_are_compared(tmp_path: Path) -> None:
    assert measured_conflict(Grid(tmp_path, SEEDS, quick=False)) is None


def test_runs_that_differ_have_different_digests() -> None:
    digests = {
        name: digest(composed(run, 0, "out")) for name, run in RUNS.items() if run.start is None
    }
    assert len(set(digests.values())) == len(digests)
    assert digest(composed(RUNS["co"], 0, "here")) == digest(composed(RUNS["co"], 0, "there"))
    assert digest(composed(RUNS["co"], 0, "out")) != digest(composed(RUNS["co"], 1, "out"))


# --- going on


def result_of(grid: Grid, name: str, seed: int, **values: object) -> Result:
    settings = digest(grid.settings(RUNS[name], seed))
    return replace(
        Result(name, seed, settings, metrics={"shapes_panoptic/pq": 0.5}, steps=4), **values
    )  # type: ignore[arg-type]


def test_what_is_finished_with_these_settings_is_not_made_again(tmp_path: Path) -> None:
    grid = Grid(tmp_path, SEEDS, quick=False)
    names = ["co", "alone_boxes"]
    write(result_of(grid, "co", 0), tmp_path)
    write(result_of(grid, "co", 1, error="exit code 1"), tmp_path)
    write(result_of(grid, "co", 2, settings="of another version"), tmp_path)
    missing = [(run.name, seed) for run, seed in grid.missing(names)]
    assert missing == [
        ("alone_boxes", 0),
        ("co", 1),
        ("alone_boxes", 1),
        ("co", 2),
        ("alone_boxes", 2),
    ]


@pytest.mark.slow
def test_a_failed_run_is_written_down_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "OUTPUTS", tmp_path / "outputs")
    broken = replace(RUNS["co"], settings={"learning_rate": -1.0})
    monkeypatch.setitem(runner.RUNS, "co", broken)
    grid = Grid(tmp_path / "results", [0], quick=True)
    assert train_missing(grid, ["co"], jobs=1) == 1
    found = read("co", 0, tmp_path / "results")
    assert found is not None
    assert found.error is not None
    assert "exit code 2" in found.error
    assert "learning_rate: must be positive" in found.error
    assert grid.missing(["co"]) == [(broken, 0)]


# --- reading the numbers


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ([0.5, 0.6], [0.3, 0.4], "better"),
        ([0.3, 0.4], [0.5, 0.6], "worse"),
        ([0.3, 0.6], [0.4, 0.5], "tie"),
        ([0.5, 0.6], [0.4, 0.5], "tie"),
    ],
)
def test_differences_within_the_spread_are_ties(
    one: list[float], other: list[float], verdict: str
) -> None:
    assert Summary(one).against(Summary(other)) == verdict
    assert Summary(one).spread == pytest.approx(one[1] - one[0])


def test_missing_and_failed_runs_are_shown_as_such(tmp_path: Path) -> None:
    grid = Grid(tmp_path, SEEDS, quick=False)
    for seed, value in zip(SEEDS, (0.5, 0.52, 0.51), strict=True):
        write(result_of(grid, "co", seed, metrics={"shapes_panoptic/pq": value}), tmp_path)
    for seed, value in zip(SEEDS[:2], (0.6, 0.7), strict=True):
        write(
            result_of(grid, "alone_panoptic", seed, metrics={"shapes_panoptic/pq": value}), tmp_path
        )
    write(result_of(grid, "alone_panoptic", SEEDS[2], error="exit code 1"), tmp_path)
    numbers = gathered(grid)
    claims = Claims(numbers)
    rows = claims.table("equal_total").splitlines()
    # a metric that a whole run lacks
    assert "| 51.0 [50.0, 52.0] | missing | missing |" not in rows[2]
    assert "| 51.0 [50.0, 52.0] | none | none |" in rows[2]
    assert "| 65.0 [60.0, 70.0] | missing | missing |" in rows[3]
    assert "| missing | missing | missing |" in rows[4]
    # two seeds are too few to say so
    assert claims.verdict("alone_panoptic", "co", "shapes_panoptic/pq") == "not measured"
    assert "alone_panoptic: seeds 2" in claims.missing()
    text = page(numbers)
    assert "alone_panoptic: seeds 2" in text
    write_report(numbers, tmp_path / "docs")
    assert json.loads((tmp_path / "docs/claims.json").read_text()) == numbers
    assert (tmp_path / "docs/claims_small_dataset.png").exists()


# --- the published page


def test_the_page_is_made_of_its_numbers_alone() -> None:
    assert (DOCS / "claims.md").read_text() == page(PUBLISHED)


def test_what_was_measured_on_a_gpu_is_shown_where_it_is_there() -> None:
    model = {
        "backbone": "R50",
        "side": 512,
        "precision": "bfloat16",
        "inference_images_per_second": 91.5,
        "inference_peak_bytes": 1.25e9,
        "training_images_per_second": 30.2,
        "training_peak_bytes": 7.5e9,
    }
    metrics = {"coco_val/pq": 0.101, "coco_val/miou": 0.203, "camvid_test/miou": 0.555}
    trained = {
        "photos_co, float32": {"metrics": metrics, "seconds": 812.2},
        "photos_co, bfloat16": {"error": "code 1"},
    }
    gpu = {
        "device": "A card",
        "side": 512,
        "steps": 4000,
        "batch": 8,
        "models": [model],
        "photographs": trained,
    }
    lines = page({**PUBLISHED, "gpu": gpu}).splitlines()
    assert "| R50 | 512 | bfloat16 | 91.5 | 1.25 GB | 30.2 | 7.50 GB |" in lines
    assert "| photos_co, float32 | 10.1 | 20.3 | 55.5 | 812 |" in lines
    assert "| photos_co, bfloat16 | code 1 | | | |" in lines
    assert "A card; one seed. The photographs at 512 pixels, 4,000 steps:" in lines


def test_every_sentence_of_the_reading_is_shown_by_the_numbers() -> None:
    claims = Claims(PUBLISHED)
    sentences = [sentence for part in READING.values() for sentence in part]
    assert [sentence.text for sentence in sentences if not claims.holds(sentence)] == []


@pytest.mark.parametrize(
    ("others", "stands"), [((0.5, 0.52, 0.51), True), ((0.5, 0.6, 0.5), False), ((0.5, 0.5), False)]
)
def test_a_sentence_stands_while_three_seeds_of_each_side_say_so(
    others: tuple[float, ...], stands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = Sentence("Sharing helps.", [Comparison("co", "better", "alone_boxes", PQ)])
    monkeypatch.setattr(report, "READING", {"What holds": (sentence,)})
    runs = {"co": (0.6, 0.61, 0.6), "alone_boxes": others}
    claims = Claims(
        {"runs": {name: {"metrics": {PQ.metric: values}} for name, values in runs.items()}}
    )
    shown, absent = (
        "- Sharing helps. (PQ: `co` 60.3, `alone_boxes` 51.0, better)",
        "- 1 of the sentences is not shown",
    )
    assert (shown in claims.reading()) is stands
    assert (absent in claims.reading()) is not stands


def test_the_numbers_are_those_of_the_results() -> None:
    grid = Grid(RESULTS, SEEDS, quick=False)
    assert gathered(grid) == PUBLISHED
