"""A model on the CPU: PyTorch in float32 and bfloat16 beside its exported graphs, in float32 and 8
bits, in ONNX Runtime and OpenVINO.

    dataseg export --model outputs/shapes --output outputs/shapes_export --quantize int8 \\
        --config shapes
    python -m benchmarks.deployment --model outputs/shapes --export outputs/shapes_export \\
        --config shapes --set shapes_panoptic

Forward passes of one image take turns in one process, on one thread each unless OMP_NUM_THREADS
says more; times are the least of the repeats. Quality is panoptic quality on the held-out set, and
the mean over the segments that PyTorch finds in float32 of their IoU with what is found there
instead (0 without a segment of the class). Writes `outputs/bench.json`, where `int8_speedup` and
`int8_pq_loss` are the worse of all models measured so far.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.measure import alternating
from numpy.typing import NDArray

from dataseg_hf import DaTaSegModel
from dataseg_hf.data.collate import Normalization
from dataseg_hf.evaluation.inference import Inference, PanopticOutput, output_of, proposals_of
from dataseg_hf.evaluation.run import evaluation_set
from dataseg_hf.evaluation.scorers import SCORERS
from dataseg_hf.evaluation.sets import EvaluationSet
from dataseg_hf.evaluation.settings import EvaluationOptions, HeldOutSettings
from dataseg_hf.settings.parts import read_part
from dataseg_hf.settings.ready_configs import config_file
from dataseg_hf.sharing.checkpoint import load_checkpoint
from dataseg_hf.sharing.runtimes import GRAPHS, open_export

Results = dict[str, Any]
REFERENCE = "PyTorch fp32"
GRAPH_ROWS = {
    "ONNX Runtime fp32": ("onnx", "fp32"),
    "ONNX Runtime int8": ("onnx", "int8"),
    "OpenVINO fp32": ("openvino", "fp32"),
    "OpenVINO int8": ("openvino", "int8"),
}


def contestants(model: DaTaSegModel, folder: Path) -> dict[str, Any]:
    """Callables that take a model's inputs, by the name of their row."""

    def in_bfloat16(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model(*args, **kwargs)

    export = open_export(folder)
    graphs = {row: export.load(*which)[0] for row, which in GRAPH_ROWS.items()}
    return {REFERENCE: model, "PyTorch bf16": Like(model, in_bfloat16), **graphs}


class Like:
    """A function with the attributes of a model that an evaluation asks for."""

    def __init__(self, model: DaTaSegModel, call: Callable[..., Any]) -> None:
        self.config, self.device, self._call = model.config, model.device, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


def times(rows: Mapping[str, Any], inputs: Mapping[str, Any], repeats: int) -> dict[str, float]:
    """Seconds of a forward pass of each, the least of the repeats."""

    def timed(call: Any) -> Callable[[], Any]:
        @torch.inference_mode()
        def forward() -> Any:
            return call(**inputs)

        return forward

    calls = {name: timed(call) for name, call in rows.items()}
    found = alternating(calls, repeats, torch.device("cpu"))
    return {name: timing.least for name, timing in found.items()}


def panoptic_results(
    model: Any, eval_set: EvaluationSet, normalization: Normalization
) -> tuple[float, list[PanopticOutput]]:
    """Panoptic quality on a set, and what was found on each of its images."""
    scorer = SCORERS["pq"]
    metric, found = scorer.new(eval_set.data.spec, eval_set.max_dets), []
    batches = [[index] for index in range(len(eval_set.data))]
    inference = Inference(normalization)
    for _, sample, output in proposals_of(model, eval_set, batches, inference):
        result = output_of(output, sample, eval_set, "panoptic")
        assert isinstance(result, PanopticOutput)
        scorer.update(metric, result, sample, eval_set.data.spec)
        found.append(result)
    return float(metric.compute()["pq"]), found


def mean_iou(found: Sequence[PanopticOutput], reference: Sequence[PanopticOutput]) -> float:
    """Mean IoU of the reference's segments with the best of their class on the same image."""
    ious = []
    for image, of_reference in zip(found, reference, strict=True):
        segments = _segments(image)
        for wanted, mask in _segments(of_reference):
            others = [other for label, other in segments if label == wanted]
            ious.append(max((_iou(mask, other) for other in others), default=0.0))
    return float(np.mean(ious)) if ious else 1.0


def _segments(image: PanopticOutput) -> list[tuple[int, NDArray[np.bool_]]]:
    return [(one["label_id"], image.segmentation == one["id"]) for one in image.segments]


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def measure(options: argparse.Namespace) -> Results:
    """Time, size and quality of each row."""
    model, processor = load_checkpoint(options.model, dtype=torch.float32)
    model.eval()
    settings = read_part(HeldOutSettings, config_file(options.config))
    entry = settings.entries([options.set])[options.set]
    evaluation = EvaluationOptions(options.model, metrics=("pq",))
    eval_set = evaluation_set(options.set, entry, evaluation, settings, model)
    normalization = Normalization(processor.image_mean, processor.image_std)
    rows = contestants(model, options.export)
    inputs = dict(processor([eval_set.data[0].image], return_tensors="pt"))
    seconds = times(rows, inputs, options.repeats)
    results: Results = {}
    reference: list[PanopticOutput] = []
    for name, call in rows.items():
        quality, found = panoptic_results(call, eval_set, normalization)
        reference = reference or found
        results[name] = {
            "seconds": seconds[name],
            "speedup": seconds[REFERENCE] / seconds[name],
            "bytes": _size(options, name),
            "pq": quality,
            "iou_with_fp32": mean_iou(found, reference),
        }
    return results


def _size(options: argparse.Namespace, row: str) -> int:
    """Bytes of the file with the weights; bfloat16 halves those of the checkpoint at best."""
    if row in GRAPH_ROWS:
        return (options.export / GRAPHS[GRAPH_ROWS[row][1]]).stat().st_size
    return sum(file.stat().st_size for file in Path(options.model).glob("model*.safetensors"))


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| | ms | times as fast | MB | PQ | IoU of segments with PyTorch fp32's |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {1000 * row['seconds']:.1f} | {row['speedup']:.2f} | "
        f"{row['bytes'] / 1e6:.1f} | {row['pq']:.4f} | {row['iou_with_fp32']:.4f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def summary(models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Results:
    """The worst over the models of what the better 8-bit runtime of each reaches, and of its loss
    of panoptic quality.
    """
    best = {
        name: max((row for row in rows if row.endswith("int8")), key=lambda r: rows[r]["speedup"])
        for name, rows in models.items()
    }
    return {
        "int8_speedup": min(models[name][row]["speedup"] for name, row in best.items()),
        "int8_pq_loss": max(
            models[name][REFERENCE]["pq"] - models[name][row]["pq"] for name, row in best.items()
        ),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a model, print its table and add it to the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a checkpoint")
    parser.add_argument("--export", required=True, type=Path, help="its export, with --quantize")
    parser.add_argument("--config", required=True, help="settings with the held-out set")
    parser.add_argument("--set", required=True, help="name of the set under `evaluation`")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    options = parser.parse_args(arguments)
    rows = measure(options)
    results = json.loads(options.output.read_text()) if options.output.is_file() else {}
    results.setdefault("deployment", {})[Path(options.model).name] = rows
    results |= summary(results["deployment"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(rows))
    print(f"all numbers: {options.output}")


if __name__ == "__main__":
    main()
