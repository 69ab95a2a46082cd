"""Teachers of every family: their labels against transformers' own post-processing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    MobileNetV2ForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
    pipeline,
)

from dataseg_hf.errors import ConfigError
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.prediction.segments import id_map
from dataseg_hf.prediction.teachers import (
    Boxes,
    ClassMap,
    TeacherOptions,
    load_teacher,
    stated_license,
    teacher_digest,
)
from dataseg_hf.prediction.teachers.classes import label_classes, things_by_name
from dataseg_hf.prediction.tiling import segment_image
from dataseg_hf.sharing.checkpoint import load_checkpoint
from helpers.tiny_teachers import (
    FAMILIES,
    NAMES,
    save_mobilenet,
    save_photographs,
    seeded,
)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    return {name: seeded(save, folder / name) for name, save in FAMILIES.items()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    folder = save_photographs(tmp_path_factory.mktemp("photos"))
    return [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.*g"))]


def labels_of(folder: Path, images: Sequence[Image.Image], **options: Any) -> list[Any]:
    return load_teacher(str(folder), TeacherOptions(device="cpu", **options)).label(images)


def sizes_of(images: Sequence[Image.Image]) -> list[tuple[int, int]]:
    return [(image.height, image.width) for image in images]


# --- against transformers -------------------------------------------------------------------------


def test_semantic_labels_are_those_of_the_processor(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    folder = teachers["segformer"]
    model = AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(images, return_tensors="pt"))
    expected = processor.post_process_semantic_segmentation(outputs, sizes_of(images))
    found = labels_of(folder, images, threshold=0.0, background="class")
    assert len(np.unique(np.concatenate([one.classes.ravel() for one in found]))) > 1
    for one, classes, logits, size in zip(
        found, expected, outputs.logits, sizes_of(images), strict=True
    ):
        assert (one.classes == classes.numpy()).mean() > 0.999
        resized = F.interpolate(logits[None], size, mode="bilinear")[0]
        np.testing.assert_allclose(one.confidence, resized.softmax(0).amax(0), atol=1e-5)


def test_what_is_not_sure_or_background_is_void(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    (sure,) = labels_of(teachers["segformer"], images[:1], threshold=0.0, background="class")
    threshold = float(np.median(sure.confidence))
    (found,) = labels_of(teachers["segformer"], images[:1], threshold=threshold)
    expected = np.where(sure.confidence < threshold, -1, sure.classes - 1)  # the first is no class
    assert (expected == -1).any()
    assert (expected >= 0).any()
    np.testing.assert_array_equal(found.classes, expected)


def test_universal_semantic_labels_are_those_of_the_processor(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    folder = teachers["mask2former"]
    model = AutoModelForUniversalSegmentation.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)
    square = [image.resize((64, 64)) for image in images]  # it ignores padding
    with torch.no_grad():
        outputs = model(**processor(square, return_tensors="pt"))
    expected = processor.post_process_semantic_segmentation(outputs, sizes_of(square))
    found = labels_of(folder, square, kind="semantic", threshold=0.0, background="class")
    for one, classes in zip(found, expected, strict=True):
        # it enlarges to 384 x 384 and reduces again
        assert (one.classes == classes.numpy()).mean() > 0.97


def test_panoptic_labels_are_those_of_the_processor(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    folder = teachers["mask2former"]
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForUniversalSegmentation.from_pretrained(folder).eval()
    square = [image.resize((64, 64)) for image in images]
    with torch.no_grad():
        outputs = model(**processor(square, return_tensors="pt"))
    expected = processor.post_process_panoptic_segmentation(
        outputs, threshold=0.3, target_sizes=sizes_of(square), label_ids_to_fuse={3}
    )
    found = labels_of(folder, square, threshold=0.3, background="class", stuff=("sky",))
    compared = 0
    for segments, result in zip(found, expected, strict=True):
        theirs = {
            info["label_id"]: result["segmentation"].numpy() == info["id"]
            for info in result["segments_info"]
        }
        for segment in segments:
            mask = segment.within(slice(0, 64), slice(0, 64))
            if segment.label_id in theirs:
                compared += 1
                both = mask & theirs[segment.label_id]
                assert both.sum() > 0.9 * mask.sum()  # theirs leaves no pixel between masks free
    assert compared


def test_padding_is_cut_off(teachers: dict[str, Path]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    teacher = load_teacher(
        str(teachers["segformer"]), TeacherOptions(image_size=64, threshold=0.0, device="cpu")
    )
    made = teacher.inputs(Image.fromarray(pixels))
    assert made.canvas == (64, 64)
    assert made.valid_size.tolist() == [40 / 64, 1.0]
    (found,) = teacher.label([Image.fromarray(pixels)])
    with torch.no_grad():
        logits = teacher.model(made.tensors["pixel_values"]).logits
    # 16 x 16 cells, of which 10 rows show the image
    expected = F.interpolate(logits[:, :, :10], (40, 64), mode="bilinear")[0]
    np.testing.assert_allclose(found.confidence, expected.softmax(0).amax(0), atol=1e-5)


def test_boxes_are_those_of_the_pipeline(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    detect = pipeline("object-detection", model=str(teachers["yolos"]), device="cpu")
    found = labels_of(teachers["yolos"], images, threshold=0.2, background="class")
    total = 0
    for boxes, image in zip(found, images, strict=True):
        assert isinstance(boxes, Boxes)
        expected = sorted(detect(image, threshold=0.2), key=lambda one: -one["score"])
        assert [NAMES[label] for label in boxes.label_ids] == [one["label"] for one in expected]
        np.testing.assert_allclose(boxes.scores, [one["score"] for one in expected], atol=1e-4)
        corners = np.array([list(one["box"].values()) for one in expected], float).reshape(-1, 4)
        limits = [image.width, image.height] * 2
        # the pipeline cuts numbers to whole ones
        np.testing.assert_allclose(boxes.corners, corners.clip(0, limits), atol=1.0)
        total += len(boxes.scores)
    assert total


def test_padding_that_nobody_tells_of_is_cut_off(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    teacher = load_teacher(
        str(teachers["eomt"]), TeacherOptions("semantic", threshold=0.0, device="cpu")
    )
    (made,) = map(teacher.inputs, images[:1])  # 40 x 64
    with torch.no_grad():
        outputs = teacher.model(made.tensors["pixel_values"])
    masks = outputs.masks_queries_logits.sigmoid()
    assert masks.shape[-2:] == (16, 16)  # 10 rows show the image
    classes = outputs.class_queries_logits.softmax(-1)[..., :-1]
    sums = torch.einsum("bqc,bqhw->bchw", classes, masks[:, :, :10])
    expected = F.interpolate(sums, (40, 64), mode="bilinear")[0].amax(0)
    (found,) = teacher.label(images[:1])
    np.testing.assert_allclose(found.confidence, expected.clamp(max=1), atol=1e-5)


def test_detr_segmentation_gives_proposals(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    found = labels_of(teachers["detr_segmentation"], images, kind="semantic", threshold=0.0)
    assert [one.classes.shape for one in found] == sizes_of(images)


# --- ours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_our_labels_are_those_of_predict(
    teachers: dict[str, Path], images: list[Image.Image], task: str
) -> None:
    model, processor = load_checkpoint(str(teachers["own"]))
    found = labels_of(
        teachers["own"], images, kind=task, threshold=0.2 if task != "semantic" else 0
    )
    for labels, image in zip(found, images, strict=True):
        thresholds = Thresholds(0.2, nms=0.7)
        expected = segment_image(model, processor, image, task, thresholds)
        size = (image.height, image.width)
        numbers = [segment.label_id for segment in expected]
        if isinstance(labels, ClassMap):
            numbers = [number + 1 for number in numbers]
            np.testing.assert_array_equal(labels.classes + 1, id_map(expected, numbers, size))
            continue
        assert [one.label_id for one in labels] == numbers if task == "panoptic" else True
        assert [one.area for one in labels] == [one.area for one in expected]


def test_words_of_the_user_are_a_vocabulary(
    teachers: dict[str, Path], images: list[Image.Image]
) -> None:
    options = TeacherOptions("semantic", vocabulary="cat, tree", device="cpu")
    assert load_teacher(str(teachers["own"]), options).classes.names == ["cat", "tree"]


# --- DeepLab --------------------------------------------------------------------------------------


def test_cells_on_every_16th_pixel_are_put_there(tmp_path: Path) -> None:
    """65 pixels give 5 x 5 cells, of which the first and last lie on the first and last pixel."""
    folder = seeded(save_mobilenet, tmp_path)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (39, 65, 3), dtype=np.uint8))
    (found,) = labels_of(folder, [image], image_size=65, threshold=0.0, background="class")
    canvas = np.full((65, 65, 3), 127.5, np.float32)  # gray below the image
    canvas[:39] = np.asarray(image)
    pixels = torch.from_numpy(canvas).permute(2, 0, 1)[None] / 127.5 - 1
    model = MobileNetV2ForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(pixels).logits
    assert logits.shape[-2:] == (5, 5)
    resized = F.interpolate(logits, (65, 65), mode="bilinear", align_corners=True)[0, :, :39]
    np.testing.assert_allclose(found.confidence, resized.softmax(0).amax(0), atol=1e-4)


# --- classes --------------------------------------------------------------------------------------


def test_outputs_of_one_name_are_one_class() -> None:
    found = label_classes(["N/A", "cat", "N/A", "cat", "dog"], None, "boxes")
    assert found.names == ["cat", "dog"]
    assert found.of_output.tolist() == [-1, 0, -1, 0, 1]
    assert found.thing_outputs.tolist() == [False, True, False, True, True]


def test_the_catalog_tells_things_from_stuff() -> None:
    names = ["person", "sky", "road", "traffic light", "flux capacitor", "background"]
    assert things_by_name(names) == [True, False, False, True, True, False]
    assert label_classes(names, None, "instance").names == ["person", "traffic light", names[4]]


def test_a_teacher_without_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 classes have no names .*`id2label`"):
        label_classes(["LABEL_0", "LABEL_1"], None, "semantic")


# --- what cannot be loaded ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        ("segformer", {"kind": "instance"}, "--task: .* gives semantic labels, not instance"),
        ("segformer", {"vocabulary": "cat"}, "--vocabulary: .*'segformer' model, whose words are"),
        ("segformer", {"stuff": ("cow",)}, r"--stuff: \['cow'\] are no classes of the teacher"),
        ("own", {"vocabulary": "cat, cat"}, "--vocabulary: "),
        ("yolos", {"device": "warp"}, "--device: 'warp' cannot be used here"),
    ],
)
def test_options_that_do_not_fit(
    teachers: dict[str, Path], teacher: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_teacher(str(teachers[teacher]), TeacherOptions(**options))


def test_what_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder; check the path"):
        load_teacher(str(tmp_path / "a" / "b"), TeacherOptions())
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1)
    ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'ViTForImageClassification'; a teacher is a semantic"):
        load_teacher(str(tmp_path), TeacherOptions())


def test_a_checkpoint_without_processor_says_what_to_do(tmp_path: Path) -> None:
    folder = seeded(save_mobilenet, tmp_path)
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json.*--image_size"):
        load_teacher(str(folder), TeacherOptions())


# --- what a teacher is known by -------------------------------------------------------------------


def test_the_digest_is_of_the_weights_wherever_they_lie(
    teachers: dict[str, Path], tmp_path: Path
) -> None:
    again = seeded(FAMILIES["segformer"], tmp_path / "again")
    other = FAMILIES["segformer"](tmp_path / "other")
    digests = [
        teacher_digest(load_teacher(str(folder), TeacherOptions(device="cpu")))
        for folder in (teachers["segformer"], again, other)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_license_is_that_of_the_card(tmp_path: Path) -> None:
    assert stated_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: for-tests\n---\n")
    assert stated_license(str(tmp_path)) == "for-tests"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Model\n")
    assert stated_license(str(tmp_path)) == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert stated_license(str(tmp_path)) is None
