"""A cell classifier that starts from a semantic segmentation model, against that model itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

from dataseg_hf import DaTaSegConfig, DaTaSegModel, HashedNgramEncoder
from dataseg_hf.errors import ConfigError
from dataseg_hf.model.cell_warm_start import segmentation_classifier, take_classifier
from dataseg_hf.model.warm_start_dataseg import take_backbone
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.settings.model import first_model
from dataseg_hf.settings.run import RunConfig

LABELS = ["background", "cat", "dog", "sofa"]
DIM = 16
SHAPE = {"depth_multiplier": 0.25, "tf_padding": True, "output_stride": 16}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a DeepLab MobileNetV2 with random weights and statistics."""
    folder = tmp_path_factory.mktemp("segmenter")
    torch.manual_seed(0)
    config = MobileNetV2Config(**SHAPE, id2label=dict(enumerate(LABELS)))
    model = MobileNetV2ForSemanticSegmentation(config)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.2)
        elif tensor.dim() == 4:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
    model.save_pretrained(folder)
    return folder


def settings_of(segmentation_head: bool = True, cell_classifier: bool = True) -> dict[str, Any]:
    backbone = {"model_type": "mobilenet_v2", "segmentation_head": segmentation_head, **SHAPE}
    return {
        "backbone_config": backbone,
        "hidden_dim": 32,
        "mask_dim": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "num_attention_heads": 4,
        "num_queries": 4,
        "cell_classifier": cell_classifier,
    }


def model_of(segmentation_head: bool = True) -> DaTaSegModel:
    settings = settings_of(segmentation_head)
    return DaTaSegModel(DaTaSegConfig(**settings, text_embedding_dim=DIM)).eval()


def run_of(segmenter: Path, model: dict[str, Any]) -> RunConfig:
    return RunConfig(
        output_dir="unused",
        datasets={"shapes_panoptic": TrainEntry(spec="shapes_panoptic", reader="shapes")},
        text_encoder={"kind": "hashed_ngrams", "dim": DIM},
        backbone_weights=str(segmenter),
        backbone_classifier=True,
        model=model,
    )


def test_the_coarsest_map_is_what_the_segmenter_classifies(segmenter: Path) -> None:
    whole = MobileNetV2ForSemanticSegmentation.from_pretrained(segmenter).eval()
    model = model_of()
    take_backbone(model.pretrainable_backbone(), segmenter)
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        maps = model.backbone(images).feature_maps
        logits = whole.segmentation_head.classifier(maps[-1])
        expected = whole(images).logits
    assert [x.shape[-2:] for x in maps] == [(24, 16), (12, 8), (6, 4), (6, 4)]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_cells_find_the_classes_that_the_segmenter_finds(segmenter: Path) -> None:
    whole = MobileNetV2ForSemanticSegmentation.from_pretrained(segmenter).eval()
    model, text = model_of(), torch.randn(len(LABELS), DIM)
    take_backbone(model.pretrainable_backbone(), segmenter)
    classifier = segmentation_classifier(segmenter)
    assert classifier.labels == LABELS
    cells = model.cell_classifier
    assert cells is not None
    take_classifier(cells, classifier, text)
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        features = cells.cell_features(model.backbone(images).feature_maps)
        found = model.classifier(cells.linear(features), text)[..., :-1].argmax(-1)
        logits = whole(images).logits
    enlarged = F.interpolate(logits, size=found.shape[1:], mode="bilinear", align_corners=False)
    assert len(found.unique()) > 1
    assert torch.equal(found, enlarged.argmax(1))


def test_a_run_starts_with_the_classes_of_the_segmenter(segmenter: Path) -> None:
    encoder = HashedNgramEncoder(DIM)
    model = first_model(run_of(segmenter, settings_of()), encoder)
    expected = model_of()
    take_backbone(expected.pretrainable_backbone(), segmenter)
    assert model.cell_classifier is not None
    assert expected.cell_classifier is not None
    take_classifier(expected.cell_classifier, segmentation_classifier(segmenter), encoder(LABELS))
    assert torch.equal(model.cell_classifier.linear.weight, expected.cell_classifier.linear.weight)
    found, wanted = model.backbone.state_dict(), expected.backbone.state_dict()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def test_a_run_without_cells_is_refused(segmenter: Path) -> None:
    run = run_of(segmenter, settings_of(cell_classifier=False))
    with pytest.raises(ConfigError, match="backbone_classifier: the model has no cell classifier"):
        first_model(run, HashedNgramEncoder(DIM))


def test_a_backbone_without_the_head_is_refused(segmenter: Path) -> None:
    cells = model_of(segmentation_head=False).cell_classifier
    assert cells is not None
    with pytest.raises(ValueError, match="set `segmentation_head: true` in `backbone_config`"):
        take_classifier(cells, segmentation_classifier(segmenter), torch.randn(len(LABELS), DIM))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    MobileNetV2Config(**SHAPE).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no MobileNetV2ForSemanticSegmentation"):
        segmentation_classifier(tmp_path)
