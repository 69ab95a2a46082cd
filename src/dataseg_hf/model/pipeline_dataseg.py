"""Image segmentation pipeline with a vocabulary per call."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import ImageSegmentationPipeline

from .configuration_dataseg import check_vocabulary
from .mask_nms_dataseg import DEFAULT_IOU, checked_iou
from .proposals_dataseg import ImageProposals
from .result_formats_dataseg import checked_thresholds
from .tasks_dataseg import get_task, output_tasks
from .words_dataseg import checked_flags, checked_words, did_you_mean

KEPT_LISTS = 64  # of words whose embeddings are kept
OPTIONS = (
    "vocabulary",
    "is_thing",
    "subtask",
    "threshold",
    "mask_threshold",
    "overlap_mask_area_threshold",
    "nms",
    "timeout",
    "local_files_only",
)


class DaTaSegPipeline(ImageSegmentationPipeline):
    """`ImageSegmentationPipeline` for DaTaSeg: any vocabulary, and instances that may overlap.

    Beside its parent's arguments (`subtask`, `threshold`, `mask_threshold`,
    `overlap_mask_area_threshold`, `timeout`), at construction or per call:

        vocabulary: name of a stored vocabulary, or a list of words, which the model's text encoder
            embeds; default is the model's default vocabulary. The model itself is not changed.
        is_thing: for a list of words, whether each is countable; all of them by default. Words that
            are not make one segment each in panoptic results and none in instance results.
        nms: of two instances of a category whose masks have a larger IoU than this (0.7), the one
            with the lower score is left out; None keeps both.

    Images are paths, addresses, base64 texts or PIL images; all are turned upright, and images of
    more than 8 bits are scaled as the image processor's `value_range` says. Results are those of
    the parent, per image a list of `{"score", "label", "mask"}`; masks of instances are complete,
    also where they overlap.

    Raises:
        ValueError: for an unknown vocabulary, subtask or argument, or words that cannot be
            embedded.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._embedded: dict[tuple[str, ...], Tensor] = {}
        super().__init__(*args, **kwargs)

    @property
    def subtasks(self) -> list[str]:
        """The names that `subtask` takes."""
        return output_tasks()

    def check_model_type(self, supported_models: Any) -> None:
        """Nothing: the parent's list holds the models of transformers only."""

    def _sanitize_parameters(
        self,
        vocabulary: str | Sequence[str] | None = None,
        is_thing: Sequence[bool] | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        _check_options(kwargs)
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        if "nms" in kwargs:
            postprocess["nms"] = checked_iou(kwargs["nms"])
        if isinstance(vocabulary, str):
            if is_thing is not None:
                raise ValueError(
                    f"the stored vocabulary '{vocabulary}' has its own thing flags: drop `is_thing`"
                )
            postprocess["labels"] = list(self.model.stored_vocabulary(vocabulary)["labels"])
            forward["classes"] = {"vocabulary": vocabulary}
        elif vocabulary is not None:
            words = checked_words(vocabulary, self.model.config.vocabularies)
            postprocess["labels"] = words
            forward["classes"] = self._embed(words, is_thing)
        elif is_thing is not None:
            raise ValueError("`is_thing` goes with a `vocabulary` of words")
        return preprocess, forward, postprocess

    def _embed(self, words: list[str], is_thing: Sequence[bool] | None) -> dict[str, Tensor]:
        """What the model's `forward` needs for these words; each list is embedded once."""
        flags = checked_flags(is_thing, len(words))
        check_vocabulary("words", words, flags)
        key = tuple(words)
        if key not in self._embedded:
            if len(self._embedded) == KEPT_LISTS:
                del self._embedded[next(iter(self._embedded))]  # the oldest
            self._embedded[key] = self.model.embed(words).to(self.device)
        return {
            "text_embeddings": self._embedded[key],
            "is_thing": torch.tensor(flags, device=self.device),
        }

    def preprocess(
        self, image: Any, subtask: str | None = None, timeout: float | None = None
    ) -> Any:
        """The model's inputs for an image, which `DaTaSegImageProcessor.read_image` reads as in
        training.
        """
        return super().preprocess(self.image_processor.read_image(image, timeout), subtask)

    def _forward(
        self, model_inputs: dict[str, Any], classes: Mapping[str, Any] | None = None
    ) -> Any:
        target_size = model_inputs.pop("target_size")
        outputs = self.model(**model_inputs, **(classes or {}))
        outputs["target_size"] = target_size
        return outputs

    def postprocess(
        self,
        model_outputs: Any,
        subtask: str | None = None,
        threshold: float = 0.9,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.5,
        labels: Sequence[str] | None = None,
        nms: float | None = DEFAULT_IOU,
    ) -> list[dict[str, Any]]:
        """The segments of one image; `labels` are the names of the categories, the model's
        `id2label` by default.
        """
        thresholds = checked_thresholds(threshold, mask_threshold, overlap_mask_area_threshold, nms)
        names: Any = self.model.config.id2label if labels is None else labels
        (proposals,) = ImageProposals.of_batch(model_outputs)
        height, width = (int(side) for side in model_outputs["target_size"][0])
        prediction = get_task(subtask or "panoptic").predict(proposals, (height, width), thresholds)
        return [
            {
                "score": region.score,
                "label": names[region.label_id],
                "mask": _mask_image(region.full_mask((height, width))),
            }
            for region in prediction.regions()
        ]


def _check_options(options: Mapping[str, Any]) -> None:
    """ValueError for an argument or a subtask that there is not."""
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        meant = did_you_mean(unknown[0], OPTIONS)
        raise ValueError(f"unknown arguments {unknown}; known are {list(OPTIONS)}{meant}")
    subtask = options.get("subtask")
    if subtask is not None and subtask not in output_tasks():
        meant = did_you_mean(str(subtask), output_tasks())
        raise ValueError(f"unknown subtask '{subtask}'; known are {output_tasks()}{meant}")


def _mask_image(mask: Tensor) -> Image.Image:
    """Gray image of a bool mask [H, W]: 255 inside, 0 outside."""
    return Image.fromarray((mask.to(torch.uint8) * 255).numpy())


__all__ = ["DaTaSegPipeline"]
