"""The model card of a run: where the model comes from, how well it does, how it is used, what it
cannot do. The words stand in `model_card_template.md`; what fills them in is collected here.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..model.tasks_dataseg import LabelForm, get_task
from ..version import __version__
from .checkpoint import PIPELINE_TASK
from .hardware import hardware
from .picture import PICTURE_FILE, Picture
from .provenance import Origin, base_model
from .record import METRICS, Record, known_spec, metric_name

TEMPLATE = Path(__file__).with_name("model_card_template.md")
DISTRIBUTION = "dataseg-hf"
START_WORDS = {
    "model_weights": "Fine-tuned from a DaTaSeg model,",
    "mask2former_weights": "Fine-tuned from a Mask2Former model,",
    "backbone_weights": "The backbone started with pretrained weights,",
}
MANY_NAMES = 40  # a longer vocabulary is folded away
FEW_IMAGES = 1000
MAIN_METRICS = ("pq", "miou", "mask_ap", "box_ap")
NEAR_ZERO = 0.05
"""A main metric below it gets a warning (our setting)."""


def model_card(
    record: Record,
    repo: str,
    license: str | None = None,
    origins: Sequence[Origin] = (),
    picture: Picture | None = None,
) -> str:
    """The card of a model, as Markdown with the Hub's metadata on top.

    Names of datasets and classes are written so that nothing in them acts as Markdown or HTML.
    Paths of the machine that trained stay out.

    Args:
        record: of the run that left the model.
        repo: id that the card's snippets load the model by.
        license: of the weights, as the Hub writes it; None if it is not chosen yet.
        origins: what the training started with, nearest first.
        picture: of the model's output, published beside the card as PICTURE_FILE.

    Raises:
        ValueError: for a record that lacks what a run of this version writes.
    """
    try:
        values = _values(record, repo)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{record.folder}: the files of the run do not fit this version ({error!r}); without "
            "run_config.yaml, run.json, mix.json and all_results.json the model is published "
            "without a record of its training"
        ) from error
    data = card_data(record, license, base_model(list(origins)))
    values |= {"license": license, "origins": origins, "picture": picture}
    return str(ModelCard.from_template(data, template_path=str(TEMPLATE), **values))


def card_data(record: Record, license: str | None, base: str | None) -> ModelCardData:
    """The metadata: a result per held-out set and metric, and the model that it was made from."""
    results = [
        EvalResult(
            task_type="image-segmentation",
            task_name="Image segmentation",
            dataset_type=name,
            dataset_name=_spec_name(record.held_out.get(name, {}), name),
            metric_type=metric,
            metric_name=metric_name(metric),
            metric_value=round(value, 4),
        )
        for name, metric, value in record.scores
    ]
    tasks = ("panoptic-segmentation", "semantic-segmentation", "instance-segmentation")
    return ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["dataseg", *tasks, "open-vocabulary"],
        model_name=record.name,
        eval_results=results or None,
        base_model=base,
        base_model_relation=None if base is None else "finetune",
    )


def plain(text: object) -> str:
    """Text that Markdown and HTML show as it stands, on one line."""
    return re.sub(
        r"([\\`*_\[\]|#~])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False)
    )


def code_url() -> str:
    """The home page that the installed package states, else its page on PyPI."""
    try:
        about = metadata(DISTRIBUTION)
    except PackageNotFoundError:
        return f"https://pypi.org/project/{DISTRIBUTION}/"
    urls = [about["Home-page"] or "", *(about.get_all("Project-URL") or [])]
    stated = [url.rpartition(", ")[2] for url in urls if _is_url(url.rpartition(", ")[2])]
    return stated[0] if stated else f"https://pypi.org/project/{DISTRIBUTION}/"


def near_zero(record: Record) -> list[dict[str, Any]]:
    """Held-out sets with a main metric below NEAR_ZERO: `name`, these `metrics`, and whether they
    are all main metrics of the set (`nothing` is found there).
    """
    main: dict[str, list[tuple[str, float]]] = {}
    for name, metric, value in record.scores:
        if metric in MAIN_METRICS:
            main.setdefault(name, []).append((METRICS[metric], value))
    sets = []
    for name, values in main.items():
        low = [f"{metric} {value:.3f}" for metric, value in values if value < NEAR_ZERO]
        if low:
            nothing = len(low) == len(values)
            sets.append({"name": name, "metrics": ", ".join(low), "nothing": nothing})
    return sets


# --- what fills in the template -------------------------------------------------------------------


def _values(record: Record, repo: str) -> dict[str, Any]:
    """The variables of the template, but those that are no matter of the record."""
    return {
        "plain": plain,
        "start_words": START_WORDS,
        "picture_file": PICTURE_FILE,
        "origin_link": _origin_link,
        "code_url": code_url(),
        "version": __version__,
        "pipeline_task": PIPELINE_TASK,
        "repo": repo,
        "name": record.name,
        "backbone": record.config["backbone_config"]["model_type"],
        "parameters": record.results.get("parameters"),
        "near_zero": near_zero(record),
        "vocabulary": list(record.config["vocabularies"])[-1],
        "words": _own_words(record),
        "sets": [_training_row(record, row) for row in record.mix],
        "training": _training(record) if record.mix else None,
        "hardware": hardware(record),
        "results": _results(record),
        "vocabularies": [_names(record, name) for name in record.config["vocabularies"]],
        "limits": _limits(record),
    }


def _own_words(record: Record) -> dict[str, Any] | None:
    """Words for the snippet, which mixes stored and new ones; None if it can embed none."""
    if not record.can_embed:
        return None
    labels = list(record.config["vocabularies"].values())[-1]["labels"][:2]
    # a backtick could end the block of code
    names = json.dumps([*labels, "something else"]).replace("`", "\\u0060")
    return {"names": names, "is_thing": [True] * len(labels) + [False]}


def _training_row(record: Record, row: Mapping[str, Any]) -> list[object]:
    entry = record.settings.get("datasets", {}).get(row["name"], {})
    return [
        _linked(row["name"], entry),
        get_task(row["task"]).summary,
        "streamed" if row["images"] is None else row["images"],
        row["classes"],
        f"{row['share']:.1%}",
        row["batch_size"],
        plain(row["license"]),
    ]


def _training(record: Record) -> dict[str, Any]:
    settings = record.settings
    encoder = record.config.get("text_encoder") or {"kind": "none"}
    sizes = sorted({entry["image_size"] for entry in settings["datasets"].values()})
    wanted = ("learning_rate", "schedule", "weight_decay", "seed")
    return {
        **{name: settings[name] for name in wanted},
        "steps": record.results.get("steps", settings["max_steps"]),
        "sizes": ", ".join(map(str, sizes)),
        "text": encoder.get("name_or_path") or encoder.get("source") or encoder["kind"],
    }


def _results(record: Record) -> list[list[object]]:
    by_set: dict[str, list[str]] = {}
    for name, metric, value in record.scores:
        by_set.setdefault(name, []).append(f"{metric_name(metric)} {value:.3f}")
    rows: list[list[object]] = []
    for name, values in by_set.items():
        entry = record.held_out.get(name, {})
        vocabulary = entry.get("vocabulary")
        words = f"vocabulary {plain(vocabulary)}" if vocabulary else "its own names"
        rows.append([plain(name), words, entry.get("image_size", ""), ", ".join(values)])
    return rows


def _names(record: Record, name: str) -> dict[str, Any]:
    """A vocabulary as text."""
    vocabulary = record.config["vocabularies"][name]
    flagged = list(zip(vocabulary["labels"], vocabulary["is_thing"], strict=True))
    default = " (default)" if name == record.config.get("default_vocabulary") else ""
    return {
        "title": f"{plain(name)}{default}, {len(flagged)} names",
        "folded": len(flagged) > MANY_NAMES,
        "things": ", ".join(plain(label) for label, thing in flagged if thing) or "none",
        "stuff": ", ".join(plain(label) for label, thing in flagged if not thing) or "none",
    }


def _limits(record: Record) -> dict[str, Any]:
    """What the mix implies for the results; names of datasets, empty where it implies nothing."""

    def named(rows: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(plain(row["name"]) for row in rows)

    def with_labels(form: LabelForm) -> list[Mapping[str, Any]]:
        return [row for row in record.mix if get_task(row["task"]).label_form == form]

    return {
        "boxes": named(with_labels("boxes")),
        "semantic": named(with_labels("classes")),
        "few": named([row for row in record.mix if (row["images"] or FEW_IMAGES) < FEW_IMAGES]),
        "spelling": (record.config.get("text_encoder") or {}).get("kind") == "hashed_ngrams",
    }


def _origin_link(origin: Origin) -> str:
    if origin.package is not None:
        return f"[{plain(origin.package)}](https://pypi.org/project/{origin.package}/)"
    if origin.repo is None:
        return "a local checkpoint that is not published"
    revision = f" (revision {plain(origin.revision)})" if origin.revision else ""
    url = f"https://huggingface.co/{origin.repo}"
    return (f"[{plain(origin.repo)}]({url})" if _is_url(url) else plain(origin.repo)) + revision


def _spec_name(entry: Mapping[str, Any], default: str) -> str:
    """Name of the dataset of an entry of the settings."""
    spec = entry.get("spec", default)
    return str(spec.get("name", default)) if isinstance(spec, Mapping) else str(spec)


def _linked(name: str, entry: Mapping[str, Any]) -> str:
    """Name of a dataset, linked to its home page where that is known."""
    stated = entry.get("spec")
    known = known_spec(stated)
    homepage = known.homepage if known is not None else ""
    if isinstance(stated, Mapping):
        homepage = stated.get("homepage") or ""
    return f"[{plain(name)}]({homepage})" if _is_url(homepage) else plain(name)


def _is_url(text: str) -> bool:
    return re.fullmatch(r"https?://[\w.~:/?#@!$&'*+,;=%-]+", text) is not None
