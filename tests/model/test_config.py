"""The configuration: what it refuses and how it says so, and that it survives being written and
read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import ConvNextConfig, MobileNetV2Config, SwinConfig

from dataseg_hf.model.configuration_dataseg import DaTaSegConfig, check_vocabulary

ConfigFactory = Callable[..., DaTaSegConfig]
REFUSALS = (ValueError, StrictDataclassError)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def test_defaults_name_a_multi_scale_swin() -> None:
    config = DaTaSegConfig()
    assert isinstance(config.backbone_config, SwinConfig)
    assert config.backbone_config.out_features == STAGES
    assert config.vocabularies == {}
    assert config.default_vocabulary is None
    assert config.hidden_size == config.hidden_dim == 256
    assert config.num_hidden_layers == config.decoder_layers == 9


@pytest.mark.parametrize(
    "name",
    [
        "hidden_dim",
        "mask_dim",
        "decoder_layers",
        "num_attention_heads",
        "num_queries",
        "text_embedding_dim",
        "mask_view_size",
        "train_num_points",
        "dim_feedforward",
        "encoder_feedforward_dim",
    ],
)
def test_sizes_below_one_are_refused(name: str, tiny_config: ConfigFactory) -> None:
    for value in (0, -3):
        with pytest.raises(REFUSALS, match=rf"`{name}` must be at least \d, got {value}"):
            tiny_config(**{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_layers": -1}, r"`encoder_layers` must lie in 0\.\.1000, got -1"),
        ({"decoder_layers": 65_536}, "`decoder_layers` must be at most 1000, got 65536"),
        ({"hidden_dim": 2**31}, "`hidden_dim` must be at most 16384, got 2147483648"),
        (
            {"hidden_dim": 30, "num_attention_heads": 5},
            r"`hidden_dim` \(30\) must be divisible by 4",
        ),
        ({"hidden_dim": 32, "num_attention_heads": 5}, r"and by `num_attention_heads` \(5\)"),
        ({"initial_logit_scale": 0}, "`initial_logit_scale` must be positive, got 0"),
        ({"initial_logit_scale": -1.0}, "`initial_logit_scale` must be positive, got -1.0"),
        ({"oversample_ratio": 0.9}, "`oversample_ratio` must be at least 1, got 0.9"),
        (
            {"importance_sample_ratio": -0.1},
            r"`importance_sample_ratio` must lie in 0..1, got -0.1",
        ),
        ({"cell_dropout": 1.0}, r"`cell_dropout` must lie in \[0, 1\), got 1.0"),
        ({"importance_sample_ratio": 1.1}, r"`importance_sample_ratio` must lie in 0..1, got 1.1"),
        ({"num_queries": 3.5}, "Field 'num_queries' expected int, got float"),
        ({"num_queries": "100"}, "Field 'num_queries' expected int, got str"),
        ({"merge_in_training": 1}, "Field 'merge_in_training' expected bool, got int"),
        ({"default_vocabulary": "sky"}, r"`default_vocabulary` is 'sky', stored are \['world'\]"),
        (
            {"vocabularies": {}, "default_vocabulary": "world"},
            r"`default_vocabulary` is 'world', stored are \[\]",
        ),
        ({"backbone_config": {"depths": [1]}}, "`backbone_config` has no `model_type`"),
    ],
)
def test_impossible_settings_are_refused(
    options: dict[str, Any], message: str, tiny_config: ConfigFactory
) -> None:
    with pytest.raises(REFUSALS, match=message):
        tiny_config(**options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_weight", -1.0),
        ("mask_weight", -1.0),
        ("dice_weight", -1.0),
        ("projection_weight", -1.0),
        ("color_affinity_weight", -1.0),
        ("no_object_weight", -0.1),
        ("mask_view_extent", 0.0),
        ("mask_view_size", 1),
        ("init_std", -1.0),
        ("initial_logit_scale", float("nan")),
    ],
)
def test_numbers_without_a_meaning_are_refused(
    name: str, value: float, tiny_config: ConfigFactory
) -> None:
    with pytest.raises(REFUSALS, match=f"`{name}`"):
        tiny_config(**{name: value})


def test_an_unknown_backbone_is_refused_by_name(tiny_config: ConfigFactory) -> None:
    with pytest.raises(REFUSALS, match=r"`backbone_config`.*'resnext'"):
        tiny_config(backbone_config={"model_type": "resnext"})


VOCABULARY_REFUSALS = [
    (
        "with space",
        ["a"],
        [True],
        r"vocabulary name 'with space' may hold letters, digits, '_' and '-' only",
    ),
    ("dotted.name", ["a"], [True], "vocabulary name 'dotted.name' may hold"),
    ("", ["a"], [True], "vocabulary name '' may hold"),
    ("v", [], [], "vocabulary 'v' has no labels"),
    ("v", ["a", "b"], [True], "vocabulary 'v' has 2 labels and 1 thing flags"),
    (
        "v",
        ["a", "b", "a", "b", "c"],
        [True] * 5,
        r"vocabulary 'v' names a category twice: \['a', 'b'\]",
    ),
]


@pytest.mark.parametrize(("name", "labels", "is_thing", "message"), VOCABULARY_REFUSALS)
def test_vocabularies_that_do_not_fit_together_are_refused(
    name: str, labels: list[str], is_thing: list[bool], message: str, tiny_config: ConfigFactory
) -> None:
    with pytest.raises(ValueError, match=message):
        check_vocabulary(name, labels, is_thing)
    with pytest.raises(REFUSALS, match=message):
        tiny_config(
            vocabularies={name: {"labels": labels, "is_thing": is_thing}}, default_vocabulary=None
        )


@pytest.mark.parametrize("default", ["v", None])
@pytest.mark.parametrize(
    "vocabulary",
    [
        {"labels": ["a"]},
        {"is_thing": [True]},
        ["a", "b"],
        {"labels": "ab", "is_thing": [True, False]},
        {"labels": ["a", 2], "is_thing": [True, False]},
        {"labels": ["a"], "is_thing": [2]},
    ],
)
def test_malformed_vocabularies_are_refused_by_name(
    vocabulary: Any, default: str | None, tiny_config: ConfigFactory
) -> None:
    with pytest.raises(REFUSALS, match="vocabulary 'v'"):
        tiny_config(vocabularies={"v": vocabulary}, default_vocabulary=default)


def test_the_default_vocabulary_gives_the_labels(tiny_config: ConfigFactory) -> None:
    config = tiny_config()
    assert config.id2label == {0: "circle", 1: "square", 2: "sky"}
    assert config.label2id == {"circle": 0, "square": 1, "sky": 2}
    assert config.num_labels == 3


def test_configs_share_no_state(tiny_config: ConfigFactory) -> None:
    first, second = DaTaSegConfig(), DaTaSegConfig()
    assert first.vocabularies is not second.vocabularies
    assert first.backbone_config is not second.backbone_config


@pytest.mark.parametrize(
    ("backbone", "config_class"),
    [
        (
            {"model_type": "convnext", "depths": [1, 1, 1, 1], "out_features": STAGES},
            ConvNextConfig,
        ),
        ({"model_type": "mobilenet_v2", "depth_multiplier": 0.5}, MobileNetV2Config),
        (None, SwinConfig),
    ],
)
def test_a_written_config_is_read_back(
    backbone: dict[str, Any] | None, config_class: type, tiny_config: ConfigFactory, tmp_path: Path
) -> None:
    written = tiny_config(
        backbone_config=backbone,
        merge_in_training=False,
        class_weight=3,
        text_encoder={"kind": "hashed_ngrams", "dim": 16},
        vocabularies={
            "world": {"labels": ["circle", "square", "sky"], "is_thing": [True, True, False]},
            "a-b_2": {"labels": ["ä"], "is_thing": [False]},
        },
    )
    assert isinstance(written.backbone_config, config_class)
    written.save_pretrained(tmp_path)
    read = DaTaSegConfig.from_pretrained(tmp_path)
    assert isinstance(read.backbone_config, config_class)
    assert read.to_dict()["backbone_config"] == written.to_dict()["backbone_config"]
    names = [name for name in DaTaSegConfig.__annotations__ if name != "backbone_config"]
    assert {name: getattr(read, name) for name in names} == {
        name: getattr(written, name) for name in names
    }
    assert read.id2label == written.id2label == {0: "circle", 1: "square", 2: "sky"}
    assert DaTaSegConfig(**written.to_dict()).to_dict() == written.to_dict()


def test_types_are_checked_on_assignment(tiny_config: ConfigFactory) -> None:
    config = tiny_config()
    with pytest.raises(REFUSALS, match="Field 'num_queries' expected int, got str"):
        config.num_queries = "many"  # type: ignore[assignment]
