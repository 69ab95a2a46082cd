"""What the benchmark of the model compares and how it measures; nothing is timed against a bar."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.scenes import GRID, NUM_CLASSES, scene, training_batch
from torch import Tensor

from benchmarks import measure, model

pytestmark = pytest.mark.slow

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    timings = measure.alternating(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, CPU
    )
    assert order == ["a", "b"] * 4
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]
    assert measure.Timing([3.0, 1.0, 2.0]).least == 1.0


def test_peak_memory_is_what_lives_at_once() -> None:
    def call() -> None:
        for _ in range(3):
            torch.zeros(2**20)  # freed before the next
        kept = [torch.zeros(2**19) for _ in range(3)]
        del kept

    assert measure.peak_memory(call, CPU) == 3 * 4 * 2**19


def test_operations_of_a_matrix_product() -> None:
    left, right = torch.randn(3, 5), torch.randn(5, 7)
    assert measure.floating_point_operations(lambda: left @ right) == 2 * 3 * 5 * 7


def test_scenes_are_what_they_say() -> None:
    for sure in (True, False):
        proposals = scene(sure=sure)
        probabilities = proposals.class_queries_logits[0].softmax(-1)
        seen = probabilities.argmax(-1) < NUM_CLASSES
        assert seen.sum() == 30
        labels = probabilities.argmax(-1)[seen]
        stuff = labels[~proposals.is_thing[0][labels]]
        assert len(stuff.unique()) == len(stuff) == 5
        assert proposals.stuff >= set(stuff.tolist())
        assert proposals.masks_queries_logits.shape == (1, 100, GRID, GRID)
        assert (proposals.masks_queries_logits[0, seen] > 0).any(0).float().mean() > 0.95


def test_training_batches_have_every_segment() -> None:
    data = training_batch(2, 64, 5)
    for segments, classes in zip(data.segment_maps, data.class_labels, strict=True):
        assert segments.unique().tolist() == list(range(5))
        assert classes.shape == (5,)


# --- the comparisons ------------------------------------------------------------------------------


def test_masks_of_the_same_weights_may_differ_by_rounding_only() -> None:
    theirs = torch.randn(1, 4, 50, 50)
    found = model.parity(theirs, theirs * (1 + 1e-4))
    assert found == {
        "parity_mask_difference": pytest.approx(1e-4, rel=1e-2),
        "parity_mask_bits_flipped": 0.0,
    }
    with pytest.raises(RuntimeError, match="masks of the same weights differ"):
        model.parity(theirs, theirs * 1.01)
    with pytest.raises(RuntimeError, match="masks of the same weights differ"):
        model.parity(theirs, theirs * float("nan"))
    theirs[0, 0] = 1e-5  # a hundredth of the difference that is allowed, and the other sign
    theirs[0, 1] = 100.0
    flipped = theirs.clone()
    flipped[0, 0, 0, :20] *= -1
    with pytest.raises(RuntimeError, match=r"2\.0e-03 of bits"):
        model.parity(theirs, flipped)


@pytest.mark.parametrize("change", ["pixel", "segment"])
def test_panoptic_results_that_differ_end_the_benchmark(change: str) -> None:
    def result() -> dict[str, Any]:
        return {
            "segmentation": torch.ones(2, 5, dtype=torch.int32),
            "segments_info": [{"id": 1, "score": 0.5}],
        }

    theirs, ours = result(), result()
    model.check_identical(theirs, ours, "here")
    if change == "pixel":
        ours["segmentation"][0, 0] = 0
        message = r"at here 1\.0e-01 of the pixels differ"
    else:
        ours["segments_info"][0]["score"] = 0.6
        message = "at here the segments differ"
    with pytest.raises(RuntimeError, match=message):
        model.check_identical(theirs, ours, "here")


@pytest.mark.parametrize("sure", [True, False])
def test_panoptic_results_are_identical(sure: bool) -> None:
    theirs, ours, _ = (
        call()[0] for call in model._panoptic_calls(scene(sure=sure), (123, 457)).values()
    )
    model.check_identical(theirs, ours, "123x457")
    assert len(theirs["segments_info"]) == 30


def test_waits_are_counted_whatever_the_number_of_segments() -> None:
    for num_things in (5, 25):
        proposals = scene(num_things=num_things, sure=False)
        for rules in (True, False):
            assert model.host_waits("panoptic", proposals, mask2former_rules=rules) == 3
        assert model.host_waits("instance", proposals) == 4


def test_the_table_has_the_measured_rows_and_their_bars() -> None:
    table = model.table({"forward_speedup": 2.5, "train_memory_ratio": 0.4, "else": 1})
    assert table.splitlines()[2:] == [
        "| forward, default pixel decoder (`forward_speedup`) | at least 2.3 | 2.50 |",
        "| training peak above weights and optimizer (`train_memory_ratio`) | at most 0.5 | 0.40 |",
    ]


# --- the whole, on small work ---------------------------------------------------------------------

WORK = model.Work(batch=1, side=64, num_segments=3, repeats=1)
CONTESTANTS = {"mask2former", "ours", "parity"}


@pytest.fixture(scope="module")
def forward() -> dict[str, Any]:
    return model.forward_rows(WORK, CPU)


def test_the_forward_rows(forward: dict[str, Any]) -> None:
    for key in ("forward_seconds", "forward_gflop", "forward_share_of_peak"):
        assert set(forward[key]) == CONTESTANTS
        assert all(value > 0 for value in forward[key].values())
    seconds = forward["forward_seconds"]
    assert forward["forward_speedup"] == seconds["mask2former"] / seconds["ours"]
    assert forward["parity_forward_speedup"] == seconds["mask2former"] / seconds["parity"]
    assert forward["parity_mask_difference"] < 1e-3
    share = (
        forward["forward_gflop"]["ours"] / seconds["ours"] / forward["matrix_product_peak_gflops"]
    )
    assert forward["forward_share_of_peak"]["ours"] == pytest.approx(share)


def test_compiled_forward_rows_count_the_operations_of_the_network(forward: dict[str, Any]) -> None:
    with torch.compiler.set_stance("force_eager"):
        compiled = model.forward_rows(WORK, CPU, compiled=True)
    assert compiled["forward_gflop"] == forward["forward_gflop"]
    assert set(compiled["forward_share_of_peak"]) == CONTESTANTS


def test_the_training_rows() -> None:
    rows = model.training_rows(WORK, CPU)
    assert (
        rows["train_memory_ratio"]
        == rows["train_peak_bytes"]["ours"] / rows["train_peak_bytes"]["mask2former"]
    )
    assert rows["train_step_speedup"] > 0


def test_the_vocabulary_rows() -> None:
    rows = model.vocabulary_rows(WORK, CPU)
    assert list(rows["vocabulary_seconds"]) == ["20", "133", "1000", "10000"]
    assert (
        rows["vocabulary_cost_ratio"]
        == rows["vocabulary_seconds"]["1000"] / rows["vocabulary_seconds"]["20"]
    )


def test_on_cuda_it_is_bfloat16_and_channels_last() -> None:
    assert model._memory_format(CUDA) == torch.channels_last
    assert model._memory_format(CPU) == torch.preserve_format
    with model._autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    if torch.cuda.is_available():
        with model._autocast(CUDA):
            assert (
                torch.ones(2, 2, device=CUDA) @ torch.ones(2, 2, device=CUDA)
            ).dtype == torch.bfloat16


def test_chosen_rows_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "bench.json"
    model.main(["--only", "semantic", "--repeats", "1", "--output", str(file)])
    written = json.loads(file.read_text())
    assert written["semantic_post_memory_ratio"] <= 0.1
    assert written["semantic_waits"] == 2
    assert "forward_speedup" not in written
    assert written["work"] == {"batch": 2, "side": 512, "segments": 12, "repeats": 1}
    assert "`semantic_post_memory_ratio`) | at most 0.1 |" in capsys.readouterr().out


def test_cuda_rows_are_those_of_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU the rows themselves cannot run: which ones are asked for, and where their
    results go.
    """
    calls: list[tuple[str, str, bool]] = []

    def rows(name: str) -> Any:
        def run(
            work: model.Work, device: torch.device, compiled: bool = False
        ) -> dict[str, Tensor]:
            calls.append((name, device.type, compiled))
            return {f"{name} on {device.type}": torch.ones(())}

        return run

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(model, "forward_rows", rows("forward"))
    monkeypatch.setattr(
        model, "MODEL_ROWS", {"forward": rows("forward"), "training": rows("training")}
    )
    results = model.measure(["forward", "training"], WORK)
    assert calls == [
        ("forward", "cpu", False), ("training", "cpu", False),
        ("forward", "cuda", False), ("training", "cuda", False), ("forward", "cuda", True),
    ]  # fmt: skip
    assert set(results["cuda"]["eager"]) == {"forward on cuda", "training on cuda"}
    assert set(results["cuda"]["compiled"]) == {"forward on cuda"}
    calls.clear()
    assert set(model.measure(["training"], WORK)["cuda"]) == {"device", "eager"}
    assert calls == [("training", "cpu", False), ("training", "cuda", False)]
