"""The claims: their runs are valid, training goes on where it stopped, the page says the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from experiments.claims import gpu
from experiments.claims.cost import measure_cost
from experiments.claims.figures import draw
from experiments.claims.gradients import cosines, measure_gradients
from experiments.claims.page import comparisons, filled, problems, shown
from experiments.claims.results import ABOUT, RESULTS, Results
from experiments.claims.runs import DROP, RUNS, SEEDS, composed, digest, merged
from experiments.claims.training import Grid, train_missing

from dataseg_hf.settings.run import parse_run_config
from helpers.paths import ROOT

PAGE = (ROOT / "docs/claims.md").read_text()
PQ = "shapes_panoptic/pq"
TABLE = """
<!-- table: shapes_panoptic/pq, shapes_semantic/miou -->
| | PQ | mIoU |
|---|---|---|
| co-trained (`co`) | |
| alone (`alone_panoptic`) | 1.0 | old |
| semantic alone (`alone_semantic`) | |

The end.
"""


# --- runs


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
    changed = merged(base, {"a": {"b": DROP, "e": None}, "d": [2]})
    assert changed == {"a": {"c": 2, "e": None}, "d": [2]}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_part_of_the_mix_and_of_the_steps() -> None:
    alone, third = (composed(RUNS[f"alone_boxes{suffix}"], 0, "out") for suffix in ("", "_third"))
    assert list(alone["datasets"]) == ["shapes_boxes"]
    assert third["max_steps"] == round(alone["max_steps"] / 3)
    sets = ["shapes_panoptic", "shapes_semantic", "shapes_boxes", "shapes_open"]
    assert list(alone["evaluation"]) == sets


def test_a_quick_run_has_few_steps_and_images() -> None:
    quick = composed(RUNS["alone_boxes_third"], 0, "out", quick=True)
    assert quick["max_steps"] == 8
    assert {entry["max_samples"] for entry in quick["evaluation"].values()} == {8}


def test_a_run_that_starts_from_another_takes_its_model() -> None:
    grid = Grid(Results(Path("nowhere.csv")), Path("models"))
    settings = grid.settings("fine_tuned_panoptic", 1)
    assert settings["model_weights"] == "models/co-s1"
    assert settings["model"] == {}


@pytest.mark.parametrize("name", gpu.TRAINED)
def test_the_runs_for_a_gpu_are_valid_and_larger(name: str, tmp_path: Path) -> None:
    settings = composed(RUNS[name], 0, str(tmp_path / "out"))
    settings = gpu.larger(settings, steps=4000, side=512, mixed_precision="bf16")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    config = parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml")
    entries = [*config.datasets.values(), *config.evaluation.values()]
    assert {entry.image_size for entry in entries} == {512}
    assert (config.max_steps, config.mixed_precision, config.num_threads) == (4000, "bf16", None)


def test_cosines_of_gradients_by_hand() -> None:
    east, north, west = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])
    halves = {"a": [{"head": east}, {"head": north}], "b": [{"head": west}, {"head": west}]}
    # with itself: one half against the other; two sets: the mean over their halves
    assert cosines(halves, "head") == pytest.approx({"a,a": 0.0, "b,b": 1.0, "a,b": -0.5})


def test_without_the_models_nothing_is_measured_on_them(tmp_path: Path) -> None:
    grid = Grid(Results(tmp_path / "results.csv"), tmp_path)
    measure_gradients(grid)
    measure_cost(grid)
    assert grid.results.rows == {}


# --- digests


def test_runs_that_differ_have_different_digests() -> None:
    runs = [run for run in RUNS.values() if run.start is None]
    digests = {digest(composed(run, 0, "out")) for run in runs}
    assert len(digests) == len(runs)
    co = RUNS["co"]
    assert digest(composed(co, 0, "here")) == digest(composed(co, 0, "there"))
    assert digest(composed(co, 0, "out")) != digest(composed(co, 1, "out"))


def test_a_renamed_setting_keeps_its_digest() -> None:
    now, then = ({"datasets": {"a": {name: 0.2}}} for name in ("color_jitter", "colour_jitter"))
    assert digest(now) == digest(then)
    assert digest(now) != digest({"datasets": {"a": {"color_jitter": 0.3}}})


def test_every_run_is_in_the_table_with_the_settings_of_today() -> None:
    grid = Grid(Results(), ROOT / "outputs/claims")
    # after a mere rename of a setting, enter it in FORMER_NAMES
    assert [(run.name, seed) for run, seed in grid.missing(list(RUNS))] == []


# --- going on


def results_of(path: Path, runs: Mapping[str, Sequence[float]], name: str = PQ) -> Results:
    """Results with a value for each seed of each run."""
    results = Results(path)
    grid = Grid(results, path.parent)
    for run, values in runs.items():
        for seed, value in enumerate(values):
            results.add(run, seed, grid.settings(run, seed), {name: value})
    return results


def test_what_is_finished_with_these_settings_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    results_of(path, {"co": [0.5]}).add("co", 2, {"max_steps": 3}, {PQ: 0.5})
    grid = Grid(Results(path), tmp_path)
    missing = [(run.name, seed) for run, seed in grid.missing(["co", "alone_boxes"])]
    assert missing == [
        ("alone_boxes", 0),
        ("co", 1),
        ("alone_boxes", 1),
        ("co", 2),  # made with other settings
        ("alone_boxes", 2),
    ]


def test_a_row_says_with_what_it_was_measured(tmp_path: Path) -> None:
    results = results_of(tmp_path / "results.csv", {"co": [0.5]})
    row = Results(results.path).rows["co", 0]
    assert f"torch={torch.__version__}" in row["versions"]
    assert "Python 3." in row["machine"]
    assert row["settings"] == digest(composed(RUNS["co"], 0, "out"))


def test_rows_with_other_columns_and_seeds_stand_side_by_side(tmp_path: Path) -> None:
    results = results_of(tmp_path / "results.csv", {"co": [0.5, 2e-05], "five": [1.0]})
    results.add("gpu:R50,512,float32", 0, {}, {"inference_peak_bytes": 7_500_000_000})
    again = Results(results.path)
    assert again.values("co", PQ) == [0.5, 2e-05]
    assert again.values("gpu:R50,512,float32", "inference_peak_bytes") == [7.5e9]
    assert again.values("five", "inference_peak_bytes") == []
    again.add("five", 1, {}, {})  # a seed without the metric
    assert again.values("five", PQ) == []


@pytest.mark.slow
def test_a_failed_run_shows_its_last_lines_and_stays_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(RUNS["co"], changes=[{"learning_rate": -1.0}])
    monkeypatch.setitem(RUNS, "co", broken)
    grid = Grid(Results(tmp_path / "results.csv"), tmp_path, [0], quick=True)
    assert train_missing(grid, ["co"], jobs=1) == 1
    said = capsys.readouterr().err
    assert "co seed 0: failed with exit code 2" in said
    assert "learning_rate: must be positive" in said
    assert grid.missing(["co"]) == [(broken, 0)]


@pytest.mark.slow
def test_a_run_is_trained_and_goes_into_the_table(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    for _ in range(2):  # the second time nothing is left
        grid = Grid(Results(path), tmp_path, [0], quick=True)
        assert train_missing(grid, ["alone_boxes_third"], jobs=1) == 0
    assert grid.has_model("alone_boxes_third", 0)
    assert grid.results.values("alone_boxes_third", "steps") == [8]
    assert len(grid.results.values("alone_boxes_third", "shapes_boxes/mask_ap50")) == 1


# --- reading the numbers


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        ([0.5, 0.6, 0.5], [0.3, 0.4, 0.3], ">"),
        ([0.3, 0.4, 0.3], [0.5, 0.6, 0.5], "<"),
        ([0.3, 0.6, 0.3], [0.4, 0.5, 0.4], "="),
        ([0.5, 0.6, 0.5], [0.4, 0.5, 0.4], "="),
        ([0.5, 0.6, 0.5], [0.3, 0.4], "?"),
    ],
)
def test_three_seeds_show_a_difference_beyond_their_spread(
    one: list[float], other: list[float], relation: str, tmp_path: Path
) -> None:
    results = results_of(tmp_path / "results.csv", {"co": one, "five": other})
    assert results.relation("co", "five", PQ) == relation


def test_a_run_is_compared_with_a_number(tmp_path: Path) -> None:
    results = results_of(tmp_path / "results.csv", {"co": [-0.1, 0.2, 0.3], "five": [0.1, 0.2, 1]})
    assert [results.relation(run, "0", PQ) for run in ("co", "five")] == ["=", ">"]


def test_counts_need_no_seeds(tmp_path: Path) -> None:
    results = results_of(tmp_path / "results.csv", {"co": [3], "five": [5]}, "parameters")
    assert results.relation("co", "five", "parameters") == "<"


def test_tables_are_filled_and_the_rest_is_left(tmp_path: Path) -> None:
    runs = {"co": [0.5, 0.52, 0.51], "alone_panoptic": [0.6, 0.7]}
    results = results_of(tmp_path / "results.csv", runs)
    lines = filled(TABLE, results).splitlines()
    assert lines[:4] == TABLE.splitlines()[:4]
    assert lines[4] == "| co-trained (`co`) | 51.0 [50.0, 52.0] | none |"
    # no sign: two seeds are too few
    assert lines[5] == "| alone (`alone_panoptic`) | 65.0 [60.0, 70.0] | none |"
    assert lines[6] == "| semantic alone (`alone_semantic`) | missing | missing |"
    assert lines[7:] == ["", "The end."]
    results_of(results.path, {"alone_panoptic": [0.6, 0.7, 0.6]})
    assert "| 63.3 [60.0, 70.0] + |" in filled(TABLE, Results(results.path))


def test_values_are_shown_in_their_units() -> None:
    assert shown(PQ, 0.4567) == "45.7"
    assert shown("cosine/backbone", -0.234) == "-0.23"
    assert shown("weight_bytes", 3290788.0) == "3.3 MB"
    assert shown("training_operations", 2135202201600.0) == "2,135,202,201,600"
    assert shown("train_seconds", 61.33) == "61.33"


@pytest.mark.parametrize(
    ("sentence", "problem"),
    [
        ("- **Sharing helps**: 60.3 against 51.0. <!-- claim: co > five in {} -->", None),
        ("- **Sharing helps.** <!-- claim: co > alone_boxes in {} -->", "the results say '?'"),
        ("- **Sharing hurts.** <!-- claim: co < five in {} -->", "the results say '>'"),
        ("- **Sharing helps.**", "no claim note"),
        ("- **It helps**: 60.4. <!-- claim: co > five in {} -->", "60.4 is no mean"),
        ("It helps by 9.3 points.", "9.3 is no mean"),
        ("It is a tie. <!-- claim: co > 0.5 in {} -->", None),
    ],
)
def test_a_sentence_stands_while_the_results_bear_it_out(
    sentence: str, problem: str | None, tmp_path: Path
) -> None:
    runs = {"co": [0.6, 0.61, 0.6], "five": [0.5, 0.52, 0.51], "alone_boxes": [0.1]}
    results = results_of(tmp_path / "results.csv", runs)
    found = problems(f"Before.\n\n{sentence.format(PQ)}\n", results)
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


def test_a_note_that_cannot_be_read_is_an_error() -> None:
    assert comparisons("co = five in a/pq,\n  b/miou; co > 0 in c") == [
        ("co", "=", "five", "a/pq"),
        ("co", "=", "five", "b/miou"),
        ("co", ">", "0", "c"),
    ]
    with pytest.raises(ValueError, match=r"claim note: 'co beats five' is not written as"):
        comparisons("co beats five")


# --- the published page and table


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    assert filled(PAGE, Results()) == PAGE, 'fill them in with `make claims ARGS="--report"`'
    assert "missing" not in [cell.strip() for cell in PAGE.split("|")]


def test_the_page_says_what_the_results_say() -> None:
    assert problems(PAGE, Results()) == []
    assert PAGE.count("<!-- claim: ") > 30


def test_the_table_is_written_as_it_is_read(tmp_path: Path) -> None:
    results = Results()
    results.path = tmp_path / "results.csv"
    results._write()
    assert results.path.read_text() == RESULTS.read_text()
    unknown = {run for (run, _), row in results.rows.items() if not all(row[key] for key in ABOUT)}
    assert all(run.startswith(("cost_of_", "gradients:")) for run in unknown)
    assert {seed for _, seed in results.rows} == set(SEEDS)


def test_the_figure_is_drawn_from_what_is_there(tmp_path: Path) -> None:
    draw(results_of(tmp_path / "results.csv", {"co": [0.5]}, "shapes_semantic/miou"), tmp_path)
    assert (tmp_path / "claims_small_dataset.png").stat().st_size > 0
