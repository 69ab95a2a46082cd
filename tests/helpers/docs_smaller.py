"""What the lines of the pages are run with instead of minutes of training or a reader's own files."""

from helpers.docs_commands import Smaller

SMALLER = (
    Smaller(
        r"cotrain(\.py)? --config shapes",
        "--max_steps 2 --num_workers 0 --num_threads 1 --num_pictures 1 --check_samples 1 "
        "--datasets.shapes_panoptic.count 8 --datasets.shapes_semantic.count 8 "
        "--datasets.shapes_boxes.count 8 "
        "--evaluation.shapes_panoptic.count 2 --evaluation.shapes_semantic.count 2 "
        "--evaluation.shapes_boxes.count 2 --evaluation.shapes_open.count 2",
        "trains for 6 minutes",
    ),
    Smaller(
        r"cotrain(\.py)? --config my\.yaml",
        "--max_steps 2 --datasets.coco.image_size 64 --datasets.coco.batch_size 1 "
        "--datasets.mine.image_size 64 "
        "--datasets.mine.batch_size 1",
        "trains as long as the reader's data asks for",
    ),
    Smaller(
        r"cotrain(\.py)? --config photos",
        "--max_steps 1 --linear_start 1 --num_threads 1 --check_samples 1 --num_pictures 1 "
        "--datasets.coco_panoptic.max_samples 2 --datasets.coco_semantic.max_samples 2 "
        "--datasets.camvid.max_samples 2 "
        "--evaluation.coco_val.max_samples 1 "
        "--evaluation.camvid_test.max_samples 1",
        "trains for 15 minutes",
    ),
    Smaller(
        r"cotrain(\.py)? --config (tutorial|boxes|teachers|first|second)\.yaml",
        "--max_steps 2 --num_workers 0 --num_threads 1 --num_pictures 1 --check_samples 1",
        "trains for minutes",
    ),
    Smaller(
        r"cotrain(\.py)? --config from_mask2former\.yaml",
        "--max_steps 1 --num_workers 0 --num_threads 1 --num_pictures 1 --check_samples 1 "
        "--datasets.warehouse.image_size 64 --datasets.warehouse.batch_size 1",
        "trains for hours",
    ),
    Smaller(
        r"evaluate(\.py)? .*--config shapes",
        "--num_threads 1 --gallery 1 --evaluation.shapes_panoptic.count 2 "
        "--evaluation.shapes_semantic.count 2 "
        "--evaluation.shapes_boxes.count 2 --evaluation.shapes_open.count 2",
        "scores 480 images",
    ),
    Smaller(
        r"evaluate(\.py)? .*objects365_instances",
        "--num_threads 1 --evaluation.objects365_instances.image_size 64",
        "images of 640 pixels",
    ),
    Smaller(
        r"evaluate(\.py)? .*ade20k_weak_panoptic",
        "--num_threads 1 --evaluation.ade20k_weak_panoptic.image_size 64",
        "images of 640 pixels",
    ),
    Smaller(
        r"export .*--quantize int8 --config shapes",
        "--calibration_images 2 --datasets shapes_panoptic",
        "draws and looks at 64 images",
    ),
    Smaller(
        r"complete .*--config shapes",
        "--datasets.shapes_boxes.count 2 --datasets.shapes_semantic.count 2",
        "completes 664 images",
    ),
    Smaller(
        r"complete .*--config boxes\.yaml",
        "--datasets.only_boxes.count 2",
        "completes hundreds of images",
    ),
    Smaller(
        r"doctor .*--config shapes",
        "--datasets.shapes_boxes.count 2 --datasets.shapes_panoptic.count 2",
        "looks at 1,200 images",
    ),
    Smaller(
        r"complete .*--config first\.yaml",
        "--datasets.only_boxes.count 12",
        "completes dozens of images",
    ),
    Smaller(
        r"probe --config shapes",
        "--num_threads 1 --datasets.shapes_panoptic.count 8 --datasets.shapes_semantic.count 8 "
        "--evaluation.shapes_panoptic.count 2 --evaluation.shapes_semantic.count 2",
        "learns from 664 images",
    ),
    Smaller(
        r"probe --config photos",
        "--num_threads 1 --strides 32 --datasets.camvid.max_samples 2 "
        "--datasets.coco_panoptic.max_samples 2 --datasets.coco_semantic.max_samples 2 "
        "--evaluation.coco_val.max_samples 1 --evaluation.camvid_test.max_samples 1",
        "takes a minute",
    ),
    Smaller(
        r"benchmarks/repeated_instances\.py",
        "--evaluation.shapes_boxes.count 2 --evaluation.shapes_panoptic.count 2",
        "scores 400 images",
    ),
    Smaller(
        r"publish(\.py)? --model outputs/(warm|adapted)",
        "--model outputs/shapes",
        "the page's text tower is a folder here, which publishing refuses; "
        "tests/model/test_warm_start.py publishes",
    ),
)
PLACEHOLDERS = {
    "MODEL": "outputs/shapes",
    "OBJECTS365=...": "OBJECTS365=objects365",
    "ADE20K=...": "ADE20K=ade20k",
}
"""Words of the pages that stand for a reader's own, and what they are in the tests."""
