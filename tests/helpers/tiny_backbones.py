"""Tiny settings of every backbone architecture that the tests run."""

import copy
from typing import Any

STAGES = ["stage1", "stage2", "stage3", "stage4"]
WIDTHS = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "out_features": STAGES}
PLAIN = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "out_features": ["stage2"],
}
BACKBONES: dict[str, dict[str, Any]] = {
    "swin": {
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 2,
        "image_size": 64,
        "drop_path_rate": 0.0,
        "out_features": STAGES,
    },
    "swinv2": {
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 2,
        "image_size": 64,
        "drop_path_rate": 0.0,
        "out_features": STAGES,
    },
    "convnext": WIDTHS,
    "convnextv2": WIDTHS,
    "dinov3_convnext": WIDTHS,
    "resnet": {**WIDTHS, "embedding_size": 8, "layer_type": "basic"},
    "rt_detr_resnet": {**WIDTHS, "embedding_size": 8, "layer_type": "basic"},
    "bit": {**WIDTHS, "embedding_size": 8, "num_groups": 4},
    "pvt_v2": {
        **WIDTHS,
        "num_attention_heads": [1, 2, 2, 2],
        "mlp_ratios": [2, 2, 2, 2],
        "image_size": 64,
        "drop_path_rate": 0.0,
    },
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "efficientnet_lite": {"width_coefficient": 0.25, "depth_coefficient": 0.5},
    "dinov2": {**PLAIN, "patch_size": 14, "image_size": 56, "mlp_ratio": 2},
    "dinov2_with_registers": {**PLAIN, "patch_size": 14, "image_size": 56, "mlp_ratio": 2},
    "dinov3_vit": {**PLAIN, "patch_size": 16, "intermediate_size": 32},
    "vitdet": {
        **PLAIN,
        "patch_size": 16,
        "pretrain_image_size": 64,
        "mlp_ratio": 2,
        "window_size": 2,
        "window_block_indices": [0],
        "use_absolute_position_embeddings": True,
        "use_relative_position_embeddings": True,
    },
    "beit": {**PLAIN, "patch_size": 16, "intermediate_size": 32, "reshape_hidden_states": True},
}
SINGLE_SCALE = ["beit", "dinov2", "dinov2_with_registers", "dinov3_vit", "vitdet"]
MULTI_SCALE = sorted(set(BACKBONES) - set(SINGLE_SCALE))
WITH_BATCH_NORM = ["resnet", "mobilenet_v2", "efficientnet_lite"]


def backbone(model_type: str) -> dict[str, Any]:
    return {"model_type": model_type, **copy.deepcopy(BACKBONES[model_type])}
