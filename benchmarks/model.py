"""Cost against transformers' Mask2Former on the same work: forward, training step, post-processing.

    make bench [ARGS="--repeats 5 --only forward"]

Both have the same Swin-T with the same weights, the same images, queries and classes, and take
turns in one run. Ratios are theirs over ours for times (speed-ups) and ours over theirs for memory;
times are the least of the repeats. Writes `outputs/bench.json` and prints a table. On CUDA the
model rows are measured there as well: bf16 autocast, channels last, eager and compiled.
"""

import argparse
import json
import platform
import tempfile
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import (
    alternating,
    floating_point_operations,
    matrix_product_peak,
    peak_memory,
)
from benchmarks.scenes import NUM_CLASSES, Batch, Scene, scene, training_batch
from tests.helpers.pretend_device import PretendDevice
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
from transformers.models.mask2former.image_processing_pil_mask2former import (
    Mask2FormerImageProcessorPil,
)

from dataseg_hf import DaTaSegConfig, DaTaSegImageProcessor, DaTaSegModel

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SIZES = {"480x640": (480, 640), "1080x1920": (1080, 1920)}
VOCABULARIES = (20, 133, 1000, 10_000)
CPU = torch.device("cpu")
Results = dict[str, Any]


@dataclass
class Work:
    """What the models are measured on."""

    batch: int
    side: int
    num_segments: int
    repeats: int


# --- the contestants ------------------------------------------------------------------------------


def mask2former() -> Mask2FormerForUniversalSegmentation:
    """The peer: Swin-T, 100 queries, random weights, which do not change the work.

    Where its deformable attention looks depends on what it sees, as in a trained one.
    """
    backbone = SwinConfig(out_features=STAGES)
    model = Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=backbone, num_labels=NUM_CLASSES)
    )
    for layer in model.model.pixel_level_module.decoder.encoder.layers:
        for linear in (layer.self_attn.sampling_offsets, layer.self_attn.attention_weights):
            nn.init.normal_(linear.weight, std=0.01)
    return model


def dataseg(peer: Mask2FormerForUniversalSegmentation) -> DaTaSegModel:
    """Ours with its default pixel decoder and the peer's backbone."""
    model = DaTaSegModel(DaTaSegConfig(backbone_config=peer.config.backbone_config))
    model.backbone.load_state_dict(peer.model.pixel_level_module.encoder.state_dict())
    names = [f"name {number}" for number in range(NUM_CLASSES)]
    model.add_vocabulary(
        "names", names, text_embeddings=torch.randn(NUM_CLASSES, model.config.text_embedding_dim)
    )
    return model


def warm_started(peer: Mask2FormerForUniversalSegmentation) -> DaTaSegModel:
    """Ours with all of the peer's weights: the same masks."""
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        model = DaTaSegModel.from_mask2former(folder, text_embeddings=torch.randn(NUM_CLASSES, 512))
    assert isinstance(model, DaTaSegModel)
    return model


# --- model rows -----------------------------------------------------------------------------------


def forward_rows(work: Work, device: torch.device, compiled: bool = False) -> Results:
    """Inference: seconds, operations and, on CUDA, memory of a batch."""
    torch.manual_seed(0)
    peer = mask2former()
    models: dict[str, nn.Module] = {
        "mask2former": peer,
        "ours": dataseg(peer),
        "parity": warm_started(peer),
    }
    pixel_values = _on(torch.randn(work.batch, 3, work.side, work.side), device)
    eager = {name: _inference(_to(model, device), pixel_values) for name, model in models.items()}
    operations = {name: floating_point_operations(call) for name, call in eager.items()}
    peak = matrix_product_peak(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    calls = eager
    if compiled:
        calls = {
            name: _inference(torch.compile(model), pixel_values) for name, model in models.items()
        }
    timings = alternating(calls, work.repeats, device)
    results: Results = {
        "forward_seconds": {name: timing.least for name, timing in timings.items()},
        "forward_speedup": timings["mask2former"].least / timings["ours"].least,
        "parity_forward_speedup": timings["mask2former"].least / timings["parity"].least,
    }
    if device.type == "cpu":
        results |= parity(
            calls["mask2former"]().masks_queries_logits, calls["parity"]().masks_queries_logits
        )
    results["forward_gflop"] = {name: count / 1e9 for name, count in operations.items()}
    results["matrix_product_peak_gflops"] = peak / 1e9
    results["forward_share_of_peak"] = {
        name: operations[name] / timings[name].least / peak for name in operations
    }
    if device.type == "cuda":
        results["forward_peak_bytes"] = {
            name: peak_memory(call, device) for name, call in calls.items()
        }
    return results


def _inference(model: Any, pixel_values: Tensor, **inputs: Tensor) -> Callable[[], Any]:
    model.eval().requires_grad_(False)

    @torch.inference_mode()
    def call() -> Any:
        with _autocast(pixel_values.device):
            return model(pixel_values=pixel_values, **inputs)

    return call


def parity(theirs: Tensor, ours: Tensor) -> Results:
    """How far mask logits of the same weights are apart; RuntimeError when that is more than
    rounding.
    """
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    flips = ((ours > 0) != (theirs > 0)).float().mean().item()
    if not (difference <= 1e-3 and flips <= 1e-3):  # not-a-number included
        raise RuntimeError(
            f"masks of the same weights differ by {difference:.1e} of the largest, {flips:.1e} of "
            "bits"
        )
    return {"parity_mask_difference": difference, "parity_mask_bits_flipped": flips}


def vocabulary_rows(work: Work, device: torch.device) -> Results:
    """What names cost: our forward with each of the `VOCABULARIES`, as a share of that with the
    smallest.
    """
    torch.manual_seed(0)
    model = _to(dataseg(mask2former()), device)
    pixel_values = _on(torch.randn(work.batch, 3, work.side, work.side), device)
    dim = model.config.text_embedding_dim
    calls = {
        str(count): _inference(
            model, pixel_values, text_embeddings=torch.randn(count, dim, device=device)
        )
        for count in VOCABULARIES
    }
    seconds = {
        name: timing.least for name, timing in alternating(calls, work.repeats, device).items()
    }
    return {
        "vocabulary_seconds": seconds,
        "vocabulary_cost_ratio": seconds["1000"] / seconds[str(VOCABULARIES[0])],
    }


def training_rows(work: Work, device: torch.device) -> Results:
    """A training step, loss, gradients and AdamW: seconds, and the peak above weights and
    optimizer.
    """
    torch.manual_seed(0)
    data = training_batch(work.batch, work.side, work.num_segments)
    peer = mask2former()
    ours = dataseg(peer)
    losses = {
        "mask2former": (peer, _peer_loss(peer, data, device)),
        "ours": (ours, _our_loss(ours, data, device)),
    }
    calls = {name: _step(model, loss, device) for name, (model, loss) in losses.items()}
    timings = alternating(calls, work.repeats, device)
    memory = {name: peak_memory(call, device) for name, call in calls.items()}
    return {
        "train_step_seconds": {name: timing.least for name, timing in timings.items()},
        "train_step_speedup": timings["mask2former"].least / timings["ours"].least,
        "train_peak_bytes": memory,
        "train_memory_ratio": memory["ours"] / memory["mask2former"],
    }


def _peer_loss(
    model: Mask2FormerForUniversalSegmentation, data: Batch, device: torch.device
) -> Callable[[], Tensor]:
    pixel_values = _on(data.pixel_values, device)
    masks = [
        (segments == torch.arange(len(classes))[:, None, None]).float().to(device)
        for segments, classes in zip(data.segment_maps, data.class_labels, strict=True)
    ]
    classes = [labels.to(device) for labels in data.class_labels]
    return lambda: model(pixel_values=pixel_values, mask_labels=masks, class_labels=classes).loss


def _our_loss(model: DaTaSegModel, data: Batch, device: torch.device) -> Callable[[], Tensor]:
    pixel_values = _on(data.pixel_values, device)
    labels = [
        {"class_labels": classes.to(device), "segment_map": segments.to(device)}
        for segments, classes in zip(data.segment_maps, data.class_labels, strict=True)
    ]
    return lambda: model(pixel_values=pixel_values, task="panoptic", labels=labels).loss


def _step(model: nn.Module, loss: Callable[[], Tensor], device: torch.device) -> Callable[[], None]:
    _to(model, device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)  # as `training` does

    def step() -> None:
        with _autocast(device):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _on(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device, memory_format=_memory_format(device))


def _to(model: nn.Module, device: torch.device) -> Any:
    anything: Any = model  # the signature known to type checkers lacks memory_format
    return anything.to(device, memory_format=_memory_format(device))


def _memory_format(device: torch.device) -> torch.memory_format:
    return torch.channels_last if device.type == "cuda" else torch.preserve_format


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


# --- post-processing rows -------------------------------------------------------------------------


def panoptic_rows(repeats: int) -> Results:
    """Id maps of a scene at both sizes, by Mask2Former's rules and by our own; the speed-up is the
    lesser of the two.

    Raises:
        RuntimeError: when a map or a segment by Mask2Former's rules is not the peer's.
    """
    torch.manual_seed(0)
    sure, soft = scene(), scene(sure=False)
    seconds, speedups, own_speedups, different = {}, {}, {}, {}
    for name, size in SIZES.items():
        calls = _panoptic_calls(sure, size)
        timings = alternating(calls, repeats, CPU)
        seconds[name] = {contestant: timing.least for contestant, timing in timings.items()}
        speedups[name] = timings["mask2former"].least / timings["ours"].least
        own_speedups[name] = timings["mask2former"].least / timings["ours, own rules"].least
        for kind, both in ((name, calls), (f"{name} soft", _panoptic_calls(soft, size))):
            theirs, ours, own_rules = (call()[0] for call in both.values())
            check_identical(theirs, ours, kind)
            different[kind] = _share_different(theirs, own_rules)
    return {
        "panoptic_post_seconds": seconds,
        "panoptic_post_speedups": speedups,
        "panoptic_post_speedup": min(speedups.values()),
        "panoptic_post_own_rules_speedups": own_speedups,
        "panoptic_post_own_rules_pixels_different": different,
        "panoptic_waits": max(
            host_waits("panoptic", soft, label_ids_to_fuse=soft.stuff, mask2former_rules=rules)
            for rules in (True, False)
        ),
    }


def _panoptic_calls(proposals: Scene, size: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    fused = {"label_ids_to_fuse": proposals.stuff}
    calls = _processors("panoptic", proposals, size, both=fused, ours={"mask2former_rules": True})
    return {
        **calls,
        "ours, own rules": _processors("panoptic", proposals, size, both=fused)["ours"],
    }


def check_identical(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> None:
    """Raise RuntimeError unless two panoptic results have the same segments and the same pixels."""
    if theirs["segments_info"] != ours["segments_info"]:
        raise RuntimeError(
            f"at {where} the segments differ: {theirs['segments_info']} and {ours['segments_info']}"
        )
    if not torch.equal(theirs["segmentation"], ours["segmentation"]):
        raise RuntimeError(f"at {where} {_share_different(theirs, ours):.1e} of the pixels differ")


def instance_rows(repeats: int) -> Results:
    """Scored instances at threshold 0.5 in one map at both sizes; the speed-up is the lesser of the
    two.
    """
    torch.manual_seed(0)
    soft = scene(sure=False)
    seconds, speedups = {}, {}
    for name, size in SIZES.items():
        timings = alternating(
            _processors("instance", soft, size, both={"threshold": 0.5}), repeats, CPU
        )
        seconds[name] = {contestant: timing.least for contestant, timing in timings.items()}
        speedups[name] = timings["mask2former"].least / timings["ours"].least
    return {
        "instance_post_seconds": seconds,
        "instance_post_speedups": speedups,
        "instance_post_speedup": min(speedups.values()),
        "instance_waits": host_waits("instance", soft, threshold=0.5),
    }


def semantic_rows(repeats: int) -> Results:
    """Class maps at 1080x1920: peak memory, seconds, and the share of pixels that differ."""
    torch.manual_seed(0)
    soft = scene(sure=False)
    calls = _processors("semantic", soft, SIZES["1080x1920"])
    timings = alternating(calls, repeats, CPU)
    memory = {name: peak_memory(call, CPU) for name, call in calls.items()}
    theirs, ours = (call()[0] for call in calls.values())
    return {
        "semantic_post_peak_bytes": memory,
        "semantic_post_memory_ratio": memory["ours"] / memory["mask2former"],
        "semantic_post_seconds": {name: timing.least for name, timing in timings.items()},
        "semantic_post_speedup": timings["mask2former"].least / timings["ours"].least,
        "semantic_post_pixels_different": (theirs != ours).float().mean().item(),
        "semantic_waits": host_waits("semantic", soft),
    }


def host_waits(kind: str, proposals: Scene, **options: Any) -> int:
    """How often the host waits for the device in our post-processing of an image of 480x640, on a
    pretend device.
    """
    method = getattr(DaTaSegImageProcessor(), f"post_process_{kind}_segmentation")
    with PretendDevice() as device:
        method(device.put(proposals), target_sizes=[SIZES["480x640"]], **options)
        return device.total


def _processors(
    kind: str,
    proposals: Scene,
    size: tuple[int, int],
    both: Mapping[str, Any] | None = None,
    ours: Mapping[str, Any] | None = None,
) -> dict[str, Callable[[], Any]]:
    """The same method of both image processors on the same proposals."""
    method = f"post_process_{kind}_segmentation"
    options = {"target_sizes": [size], **(both or {})}
    peers, own = (
        getattr(Mask2FormerImageProcessorPil(), method),
        getattr(DaTaSegImageProcessor(), method),
    )
    return {
        "mask2former": lambda: peers(proposals, **options),
        "ours": lambda: own(proposals, **options, **(ours or {})),
    }


def _share_different(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> float:
    return (theirs["segmentation"] != ours["segmentation"]).float().mean().item()


# --- the table ------------------------------------------------------------------------------------

# key: (what it says, the ratio that must hold, whether larger is better)
PROMISES = {
    "parity_forward_speedup": ("forward with Mask2Former's own weights", 1.4, True),
    "forward_speedup": ("forward, default pixel decoder", 2.3, True),
    "vocabulary_cost_ratio": ("forward with 1,000 names, against 20", 1.1, False),
    "train_step_speedup": ("training step, 12 segments an image", 2.0, True),
    "train_memory_ratio": ("training peak above weights and optimizer", 0.5, False),
    "panoptic_post_speedup": ("panoptic post-processing, identical result", 4.5, True),
    "instance_post_speedup": ("instance post-processing, threshold 0.5", 14.0, True),
    "semantic_post_memory_ratio": (
        "semantic post-processing at 1080x1920, peak memory",
        0.1,
        False,
    ),
}


def table(results: Mapping[str, Any]) -> str:
    """The promised ratios that were measured, as Markdown."""
    lines = ["| against transformers' Mask2Former | promised | measured |", "|---|---|---|"]
    for key, (what, promised, larger) in PROMISES.items():
        if key in results:
            sign = "at least" if larger else "at most"
            lines.append(f"| {what} (`{key}`) | {sign} {promised} | {results[key]:.2f} |")
    return "\n".join(lines)


MODEL_ROWS = {"forward": forward_rows, "training": training_rows, "vocabulary": vocabulary_rows}
# calls of milliseconds: the least of five is chance
POST_REPEATS = 5
POST_ROWS = {"panoptic": panoptic_rows, "instance": instance_rows, "semantic": semantic_rows}


def measure(only: Sequence[str], work: Work) -> Results:
    """The chosen rows on the CPU, and those of the models on CUDA as well, where there is one."""
    results: Results = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}",
        "work": {
            "batch": work.batch,
            "side": work.side,
            "segments": work.num_segments,
            "repeats": work.repeats,
        },
    }
    for name in only:
        results |= (
            MODEL_ROWS[name](work, CPU)
            if name in MODEL_ROWS
            else POST_ROWS[name](POST_REPEATS * work.repeats)
        )
    if torch.cuda.is_available():
        cuda = torch.device("cuda")
        eager = [MODEL_ROWS[name](work, cuda) for name in only if name in MODEL_ROWS]
        results["cuda"] = {"device": torch.cuda.get_device_name(), "eager": dict(ChainMap(*eager))}
        if "forward" in only:
            results["cuda"]["compiled"] = forward_rows(work, cuda, compiled=True)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the results."""
    rows = [*MODEL_ROWS, *POST_ROWS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=rows, default=rows, help="rows to measure")
    parser.add_argument(
        "--side", type=int, default=512, help="side of the square images, in pixels"
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--segments", type=int, default=12, help="targets of each training image")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    options = parser.parse_args(arguments)
    results = measure(
        options.only, Work(options.batch, options.side, options.segments, options.repeats)
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))
    print(f"all numbers: {options.output}")


if __name__ == "__main__":
    main()
