"""ImageNet-trained MobileNetV2: an array file of convolutions -> a folder for
`MobileNetV2Backbone.from_pretrained`.

The array file holds the 53 convolutions of a quantized MobileNetV2 1.0 with batch norms folded in,
in graph order and torch's OIHW layout: `NN.q` uint8, `NN.scale`, `NN.zero`, `NN.bias`; the weight
is `(q - zero) * scale`; 52 is the classifier, whose class 0 is background. The network reads RGB as
`(x - 127.5) / 127.5` and pads as TensorFlow's "SAME".

    python benchmarks/photos/convert_mobilenet_v2.py --weights FILE.npz --output DIR
    python benchmarks/photos/convert_mobilenet_v2.py --weights FILE.npz --labels NAMES.txt \
        --check PHOTO.jpg ...
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from dataseg_hf.model.backbone_mobilenetv2_dataseg import MobileNetV2Backbone

Arrays = Mapping[str, NDArray[np.generic]]


def weight_and_bias(arrays: Arrays, index: int) -> tuple[Tensor, Tensor]:
    """Convolution `index`: float32 weight [O, I, h, w], dequantized, and bias [O]."""
    q, scale, zero, bias = (
        torch.from_numpy(arrays[f"{index:02d}.{key}"]) for key in ("q", "scale", "zero", "bias")
    )
    return (q.float() - zero.float()) * scale.float(), bias.float()


@torch.no_grad()
def build_classifier(
    arrays: Arrays, names: Sequence[str] | None = None
) -> MobileNetV2ForImageClassification:
    """The whole ImageNet classifier, in evaluation mode; `names` are its 1001 labels, background
    first.

    A folded batch norm becomes one that only adds the bias: weight sqrt(1 + eps), mean 0, variance
    1.

    Raises:
        ValueError: when the arrays are not the convolutions of this network, in module order.
    """
    labels = dict(enumerate(names)) if names is not None else {i: f"class {i}" for i in range(1001)}
    model = MobileNetV2ForImageClassification(
        MobileNetV2Config(tf_padding=True, id2label=labels)
    ).eval()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if len(arrays) != 4 * (len(convolutions) + 1):
        raise ValueError(
            f"expected 4 arrays for each of {len(convolutions) + 1} convolutions, got "
            f"{len(arrays)} arrays"
        )
    for index, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        weight, bias = weight_and_bias(arrays, index)
        copy(weight, convolution.weight, index)
        copy(bias, norm.bias, index)
        norm.weight.fill_((1 + norm.eps) ** 0.5)
    weight, bias = weight_and_bias(arrays, len(convolutions))
    copy(weight[:, :, 0, 0], model.classifier.weight, len(convolutions))
    copy(bias, model.classifier.bias, len(convolutions))
    return model


def copy(source: Tensor, target: Tensor, index: int) -> None:
    """Copy in place, without the broadcasting that would hide a wrong file."""
    if source.shape != target.shape:
        raise ValueError(
            f"convolution {index:02d}: {list(source.shape)} in the file, {list(target.shape)} in "
            "the network"
        )
    target.copy_(source)


def build_backbone(classifier: MobileNetV2ForImageClassification) -> MobileNetV2Backbone:
    """The backbone with the classifier's weights."""
    backbone = MobileNetV2Backbone(MobileNetV2Config(tf_padding=True)).eval()
    wanted = backbone.state_dict().keys()
    backbone.load_state_dict(
        {k: v for k, v in classifier.mobilenet_v2.state_dict().items() if k in wanted}
    )
    return backbone


def read_photo(path: Path) -> Tensor:
    """The central 87.5 % of a photograph, as the network is evaluated: float [1, 3, 224, 224] in
    -1..1.
    """
    image = Image.open(path).convert("RGB")
    side = 0.875 * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = image.resize(
        (224, 224), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    return ((torch.from_numpy(np.array(square)).float() - 127.5) / 127.5).permute(2, 0, 1)[None]


@torch.no_grad()
def top_labels(
    model: MobileNetV2ForImageClassification, path: Path, count: int = 5
) -> list[tuple[str, float]]:
    """The most probable ImageNet labels of a photograph with their probabilities in 0..1."""
    values, indices = model(read_photo(path)).logits[0].softmax(-1).topk(count)
    return [
        (model.config.id2label[i], p)
        for i, p in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def convert(weights: Path, output: Path) -> None:
    """Write the backbone of an array file into a folder."""
    with np.load(weights, allow_pickle=False) as arrays:
        build_backbone(build_classifier(arrays)).save_pretrained(output)
    print(f"wrote {output}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help=".npz file of the convolutions")
    parser.add_argument("--output", type=Path, help="folder to write config and safetensors to")
    parser.add_argument(
        "--labels", type=Path, help="text file with the 1001 class names, one per line, for --check"
    )
    parser.add_argument(
        "--check", type=Path, nargs="+", default=[], help="photographs to print the top-5 labels of"
    )
    args = parser.parse_args()
    if args.output is None and not args.check:
        parser.error("nothing to do: give --output, --check, or both")
    names = args.labels.read_text(encoding="utf-8").splitlines() if args.labels else None
    with np.load(args.weights, allow_pickle=False) as arrays:
        classifier = build_classifier(arrays, names)
    for path in args.check:
        print(
            path.name,
            ", ".join(f"{label} {p:.2f}" for label, p in top_labels(classifier, path)),
            sep=": ",
        )
    if args.output is not None:
        convert(args.weights, args.output)


if __name__ == "__main__":
    main()
