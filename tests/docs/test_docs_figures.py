"""The pictures of docs/merge.md: they can be drawn, and show what the page says of them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from dataseg_hf.model.proposals_dataseg import LayerProposals
from helpers.paths import ROOT

FIGURES = ROOT / "docs" / "figures"


@pytest.fixture(scope="module")
def merge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_figures_merge", FIGURES / "merge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(merge: ModuleType) -> list:
    return merge.made_proposals(merge.scene())


@pytest.fixture(scope="module")
def output(merge: ModuleType, made: list) -> LayerProposals:
    return merge.as_model_output(made)


@pytest.mark.slow
def test_the_script_draws_the_committed_pictures(merge: ModuleType, tmp_path: Path) -> None:
    written = merge.main(tmp_path / "pictures")
    assert {path.name for path in written} == {path.name for path in FIGURES.glob("merge_*.png")}
    for path in written:
        drawn, committed = Image.open(path).size, Image.open(FIGURES / path.name).size
        assert drawn == pytest.approx(committed, abs=2)  # versions of matplotlib differ by a pixel
        assert (FIGURES / path.name).stat().st_size < 150_000


def test_the_proposals_have_the_numbers_of_the_page(made: list) -> None:
    names = [
        "wall of bricks",
        "wall of bricks",
        "sand",
        "triangle",
        "circle",
        "cross",
        "triangle",
        "triangle",
    ]
    assert [proposal.name for proposal in made] == [*names, "background"]
    assert bool((made[0].mask & made[1].mask).any())  # the parts of the wall overlap
    assert made[7].mask.equal(made[3].mask | made[6].mask)


def test_panoptic_merges_stuff_and_drops_the_pair(
    merge: ModuleType, output: LayerProposals
) -> None:
    segments = merge.predicted(output, "panoptic").segments
    found = sorted((merge.NAMES[segment["label_id"]], segment["was_fused"]) for segment in segments)
    things = [("circle", False), ("cross", False), ("triangle", False), ("triangle", False)]
    assert found == sorted([*things, ("sand", True), ("wall of bricks", True)])


def test_instances_keep_the_pair_as_the_last(
    merge: ModuleType, made: list, output: LayerProposals
) -> None:
    found = merge.predicted(output, "instance")
    assert [merge.NAMES[label] for label in found.label_ids.tolist()] == [
        "cross", "triangle", "triangle", "circle", "triangle",
    ]  # fmt: skip
    pair = made[7].mask
    overlap = (found.masks[-1] & pair).sum() / (found.masks[-1] | pair).sum()
    assert overlap > 0.9


def test_semantic_has_no_triangle_apart(
    merge: ModuleType, made: list, output: LayerProposals
) -> None:
    triangle = merge.predicted(output, "semantic").segmentation == merge.NAMES.index("triangle")
    pair = made[7].mask
    assert (triangle & pair).sum() > 0.95 * pair.sum()


@pytest.mark.parametrize(
    ("task", "name", "matched", "recruits"),
    [
        ("panoptic", "wall of bricks", 1, [2]),
        ("panoptic", "triangle", 4, []),
        ("semantic", "triangle", 8, [4, 7]),
    ],
)
def test_training_groups_are_those_of_the_page(
    merge: ModuleType,
    output: LayerProposals,
    task: str,
    name: str,
    matched: int,
    recruits: list[int],
) -> None:
    seen = merge.training(merge.scene(), output, task)
    target = seen.classes.tolist().index(merge.NAMES.index(name))
    assert int(seen.groups.matched[0, target]) + 1 == matched
    assert [query + 1 for query in seen.recruits(target)] == recruits
    assert seen.dice(seen.merged, target) <= seen.dice(seen.alone, target)


def test_the_pair_is_background_in_panoptic_training(
    merge: ModuleType, output: LayerProposals
) -> None:
    seen = merge.training(merge.scene(), output, "panoptic")
    wanted = seen.groups.class_targets(seen.classes[None], merge.BACKGROUND)[0].tolist()
    assert wanted[7] == wanted[8] == merge.BACKGROUND
    assert merge.NAMES[wanted[1]] == "wall of bricks"
