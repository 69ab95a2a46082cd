"""The model card of a run: what it was trained on, how well it does, how it is used, what it cannot
do.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from ..version import __version__
from .checkpoint import PIPELINE_TASK

METRICS = {
    "pq": "PQ",
    "pq_things": "PQ of things",
    "pq_stuff": "PQ of stuff",
    "sq": "SQ",
    "rq": "RQ",
    "miou": "mIoU",
    "fwiou": "frequency-weighted IoU",
    "pixel_acc": "pixel accuracy",
    "mean_acc": "mean accuracy",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "mask_ap75": "mask AP75",
    "mask_ap_small": "mask AP, small",
    "mask_ap_medium": "mask AP, medium",
    "mask_ap_large": "mask AP, large",
    "box_ap": "box AP",
    "box_ap50": "box AP50",
    "box_ap75": "box AP75",
    "box_ap_small": "box AP, small",
    "box_ap_medium": "box AP, medium",
    "box_ap_large": "box AP, large",
}
"""Key of a result, as `evaluation` names it -> what people call it."""

ANNOTATION = {
    "panoptic": "panoptic segments",
    "semantic": "a class per pixel",
    "instance": "a mask per object",
    "boxes": "a box per object, no masks",
}
MANY_NAMES = 40  # a longer vocabulary is folded away

CITATION = """```bibtex
@inproceedings{gu2023dataseg,
  title = {DaTaSeg: Taming a Universal Multi-Dataset Multi-Task Segmentation Model},
  author = {Gu, Xiuye and Cui, Yin and Huang, Jonathan and Rashwan, Abdullah and Yang, Xuan and
            Zhou, Xingyi and Ghiasi, Golnaz and Kuo, Weicheng and Chen, Huizhong and
            Chen, Liang-Chieh and Ross, David},
  booktitle = {NeurIPS}, year = {2023}
}
```"""


@dataclass(frozen=True)
class Record:
    """What the folder of a run tells; parts are empty for a model that no run of this package left.

    config: of the model. settings: `run_config.yaml`. mix: `mix.json`. results: `all_results.json`.
    """

    name: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    mix: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]

    @property
    def scores(self) -> list[tuple[str, str, float]]:
        """(held-out set, metric, value) of every known metric that is defined."""
        split = [
            (*key.rpartition("/")[::2], value) for key, value in self.results.items() if "/" in key
        ]
        return [
            (name, metric, value)
            for name, metric, value in split
            if metric in METRICS and value is not None
        ]

    @property
    def can_embed(self) -> bool:
        """Whether the model can embed words that it does not store."""
        encoder = self.config.get("text_encoder")
        return encoder is not None and encoder["kind"] in ("hashed_ngrams", "hub")


def model_card(folder: str | Path, repo: str, license: str | None = None) -> str:
    """The card of the model in a run's folder, as Markdown with the Hub's metadata on top.

    Names of datasets and classes are written so that nothing in them acts as Markdown or HTML.
    Paths of the machine that trained stay out.

    Args:
        folder: with `config.json`, and of a run also `run_config.yaml`, `mix.json`,
            `all_results.json`.
        repo: id that the card's snippets load the model by.
        license: of the weights, as the Hub writes it; without, the metadata states none.

    Raises:
        ValueError: for one of these files that cannot be read, or lacks what a run of this version
            writes.
    """
    record = read_record(folder, repo)
    try:
        return _written(record, repo, license)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder}: the files of the run do not fit this version ({error!r}); without "
            "run_config.yaml, mix.json "
            "and all_results.json the model is published without a record of its training"
        ) from error


def _written(record: Record, repo: str, license: str | None) -> str:
    """The card of a record."""
    parts = [
        f"# {plain(record.name)}",
        _summary(record),
        "## Use it",
        *_usage(record, repo),
        "## Trained on",
        *_training(record),
        "## Results",
        *_results(record),
        "## Vocabularies",
        *_vocabularies(record),
        "## Limitations",
        _limitations(record),
        "## License and citation",
        _license(record, license),
        CITATION,
    ]
    metadata = card_data(record, license)
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def read_record(folder: str | Path, repo: str) -> Record:
    """What the folder tells; ValueError names a file of it that cannot be read."""
    folder = Path(folder)

    def read(name: str, empty: Any) -> Any:
        file = folder / name
        try:
            text = file.read_text(encoding="utf-8")
            return yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)
        except FileNotFoundError:
            return empty
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error

    return Record(
        name=repo.rpartition("/")[2],
        config=read("config.json", {}),
        settings=read("run_config.yaml", {}),
        mix=read("mix.json", []),
        results=read("all_results.json", {}),
    )


def card_data(record: Record, license: str | None) -> ModelCardData:
    """The metadata, with a result per held-out set and metric."""
    entries = record.settings.get("evaluation", {})
    results = [
        EvalResult(
            task_type="image-segmentation",
            task_name="Image segmentation",
            dataset_type=name,
            dataset_name=_spec_name(entries.get(name, {}), name),
            metric_type=metric,
            metric_name=METRICS[metric],
            metric_value=round(value, 4),
        )
        for name, metric, value in record.scores
    ]
    return ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=[
            "dataseg",
            "panoptic-segmentation",
            "semantic-segmentation",
            "instance-segmentation",
            "open-vocabulary",
        ],
        model_name=record.name,
        eval_results=results or None,
    )


def plain(text: object) -> str:
    """Text that Markdown and HTML show as it stands, on one line."""
    return re.sub(
        r"([\\`*_\[\]|#~])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False)
    )


def _spec_name(entry: Mapping[str, Any], default: str) -> str:
    """Name of the dataset of an entry of the settings."""
    spec = entry.get("spec", default)
    return str(spec.get("name", default)) if isinstance(spec, Mapping) else str(spec)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


# --- sections -------------------------------------------------------------------------------------


def _summary(record: Record) -> str:
    size = (
        f", {record.results['parameters'] / 1e6:.1f} M parameters"
        if "parameters" in record.results
        else ""
    )
    backbone = plain(record.config["backbone_config"]["model_type"])
    return (
        f"A DaTaSeg model ([Gu et al., NeurIPS 2023](https://arxiv.org/abs/2306.01736); {backbone} "
        f"backbone{size}): "
        "one set of weights that does panoptic, semantic and instance segmentation in each of its "
        "vocabularies, or in "
        f"words of your own. Made with dataseg\\_hf {__version__}."
    )


def _usage(record: Record, repo: str) -> list[str]:
    """Snippets that run as they stand beside a file `photo.jpg`; tests run them."""
    other = list(record.config["vocabularies"])[-1]
    labels = record.config["vocabularies"][other]["labels"][:2]
    parts = [
        "The code comes with the model (`trust_remote_code=True` runs it: read it, or pin a commit "
        "by `revision=`). It "
        'needs torch, transformers 5, Pillow and scipy. `pipeline("image-segmentation", ...)` '
        "gives the same pipeline.",
        f"""```python
from transformers import pipeline

segment = pipeline("{PIPELINE_TASK}", model="{repo}", trust_remote_code=True)
for found in segment("photo.jpg", subtask="panoptic", threshold=0.5):  # or "semantic", "instance"
    print(found["label"], found["score"], found["mask"].size)

segment("photo.jpg", vocabulary="{other}")  # another stored vocabulary
```""",
    ]
    if record.can_embed:
        words = json.dumps([*labels, "something else"]).replace("`", "\\u0060")
        parts.append(f"""With words of your own; those that are no things make one segment each:

```python
segment("photo.jpg", vocabulary={words}, is_thing={[True] * len(labels) + [False]})
```""")
    else:
        parts.append(
            "Words may be any of its names below. Others need `text_embeddings=` of the space that "
            "the model was "
            "trained with: its own were precomputed."
        )
    parts.append(f"""With the Auto classes:

```python
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation

model = AutoModelForUniversalSegmentation.from_pretrained("{repo}", trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
image = Image.open("photo.jpg")
with torch.no_grad():
    outputs = model(**processor(image, return_tensors="pt"), vocabulary="{other}")
sizes = [(image.height, image.width)]
# int64 [H, W]
class_map = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)[0]
panoptic = processor.post_process_panoptic_segmentation(outputs, target_sizes=sizes)[0]
print(panoptic["segmentation"].shape, panoptic["segments_info"])
```""")
    return parts


def _training(record: Record) -> list[str]:
    if not record.mix:
        return [
            "The folder that this model comes from does not say: it was not left by a co-training "
            "run."
        ]
    rows = []
    for row in record.mix:
        entry = record.settings.get("datasets", {}).get(row["name"], {})
        rows.append(
            (
                _linked(row["name"], entry),
                ANNOTATION[row["task"]],
                "streamed" if row["images"] is None else row["images"],
                row["classes"],
                f"{row['share']:.1%}",
                row["batch_size"],
                plain(row["license"]),
            )
        )
    header = (
        "dataset",
        "annotation",
        "images",
        "classes",
        "share of the steps",
        "batch",
        "license of the data",
    )
    settings = record.settings
    encoder = record.config.get("text_encoder") or {"kind": "none"}
    text = encoder.get("name_or_path") or encoder.get("source") or encoder["kind"]
    sizes = sorted({entry["image_size"] for entry in settings["datasets"].values()})
    steps = (
        f"{record.results.get('steps', settings['max_steps'])} steps, each on a batch of one "
        "dataset drawn by its "
        f"share; AdamW, peak learning rate {settings['learning_rate']:g}, schedule "
        f"{settings['schedule']}, weight "
        f"decay {settings['weight_decay']:g}; images of {', '.join(map(str, sizes))} pixels; names "
        "embedded by: "
        f"{plain(text)}; seed {settings['seed']}."
    )
    return [_table(header, rows), steps]


def _linked(name: str, entry: Mapping[str, Any]) -> str:
    """Name of a dataset, linked to its home page where that is known."""
    spec = entry.get("spec")
    homepage = spec.get("homepage") if isinstance(spec, Mapping) else _known_homepage(str(spec))
    safe = re.fullmatch(r"https?://[\w.~:/?#@!$&'*+,;=%-]+", homepage or "")
    return f"[{plain(name)}]({homepage})" if safe else plain(name)


def _known_homepage(spec: str) -> str:
    """The home page of a dataset that this package describes."""
    try:
        from ..data.catalog import CATALOG
        from ..data.shapes import SHAPES_SPECS
    except (
        ImportError
    ):  # the catalog needs `datasets`, publishing does not: names are then not linked
        return ""
    known = {**CATALOG, **SHAPES_SPECS}
    return known[spec].homepage if spec in known else ""


def _results(record: Record) -> list[str]:
    if not record.scores:
        return ["The folder of this model holds no results."]
    entries = record.settings.get("evaluation", {})
    by_set: dict[str, list[str]] = {}
    for name, metric, value in record.scores:
        by_set.setdefault(name, []).append(f"{METRICS[metric]} {value:.3f}")
    rows = []
    for name, values in by_set.items():
        entry = entries.get(name, {})
        vocabulary = entry.get("vocabulary")
        words = f"vocabulary {plain(vocabulary)}" if vocabulary else "its own names"
        rows.append((plain(name), words, entry.get("image_size", ""), ", ".join(values)))
    note = (
        "Fractions in 0..1, measured at the end of this run, one seed, on the held-out sets of its "
        "settings. PQ is "
        "panopticapi's, AP pycocotools'; a set scored in its own names can hold words that "
        "training never saw."
    )
    return [_table(("held-out set", "scored in", "image size", "results"), rows), note]


def _vocabularies(record: Record) -> list[str]:
    parts = []
    for name, vocabulary in record.config["vocabularies"].items():
        default = " (default)" if name == record.config.get("default_vocabulary") else ""
        flagged = list(zip(vocabulary["labels"], vocabulary["is_thing"], strict=True))
        things = ", ".join(plain(label) for label, thing in flagged if thing) or "none"
        stuff = ", ".join(plain(label) for label, thing in flagged if not thing) or "none"
        title = f"{plain(name)}{default}, {len(flagged)} names"
        text = f"Things: {things}.\n\nStuff: {stuff}."
        if len(flagged) > MANY_NAMES:
            parts.append(f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>")
        else:
            parts.append(f"**{title}**\n\n{text}")
    return parts


def _limitations(record: Record) -> str:
    points = [
        "It finds what its vocabulary names: every pixel of a semantic result gets some name, "
        "right or wrong. Words "
        "far from those of the datasets above are guesses.",
        "Where annotations of the datasets disagree, so do the vocabularies: choose the one whose "
        "data is like yours.",
        "It was not examined for bias, nor for any use in which a mistake does harm.",
    ]
    kinds: dict[str, list[str]] = {row["task"]: [] for row in record.mix}
    for row in record.mix:
        kinds[row["task"]].append(plain(row["name"]))
    if "boxes" in kinds:
        points.append(
            f"In {', '.join(kinds['boxes'])} it saw boxes only: masks of these classes are "
            "inferred from boxes."
        )
    if "semantic" in kinds:
        points.append(
            f"In {', '.join(kinds['semantic'])} no annotation told two of a kind apart: that it "
            "does so there "
            "is carried over from the other datasets."
        )
    small = [
        plain(row["name"])
        for row in record.mix
        if row["images"] is not None and row["images"] < 1000
    ]
    if small:
        points.append(f"Fewer than 1,000 images were seen of: {', '.join(small)}.")
    if (record.config.get("text_encoder") or {}).get("kind") == "hashed_ngrams":
        points.append(
            "Its text embeddings know spelling, not meaning: a synonym is as far away as any other "
            "word."
        )
    return "\n".join(f"- {point}" for point in points)


def _license(record: Record, license: str | None) -> str:
    stated = (
        f"The weights are published under: {plain(license)}."
        if license
        else "No license is stated for the weights."
    )
    data = (
        " The datasets have licenses of their own, listed above, which may restrict what the "
        "weights are used for."
    )
    return (
        f"{stated}{data if record.mix else ''} The code is under Apache-2.0. If you use the "
        "method, cite the paper:"
    )
