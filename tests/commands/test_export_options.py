"""Options of `dataseg export` that cannot work together are refused before a model is loaded."""

import pytest

from dataseg_hf.commands.export import CALIBRATION_IMAGES, parse_options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--output out --quantize int8", "needs images to measure"),
        ("--output out --quantize int8 --images a --config shapes", "either a mix"),
        ("--output out.onnx --quantize int8 --images a", "writes a folder"),
        ("--output out --config shapes", "go with --quantize"),
        ("--output out.onnx --calibration_images 3", "go with --quantize"),
        ("--output out --quantize int8 --images a --datasets b", "names entries of a mix"),
        ("--output out --quantize int8 --images a --calibration_images 0", "above 0, got 0"),
        ("--output out --static_batch", "only for a file"),
        ("--output out --size 64 96", "canvas is square"),
        ("--output out.bin", "must end in .onnx or .pt2, or be a folder"),
    ],
)
def test_options_that_exclude_each_other(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_options(["--model", "x", *words.split()])
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_number_of_images_has_a_default() -> None:
    words = ["--model", "x", "--output", "out", "--quantize", "int8", "--images", "a"]
    assert parse_options(words).calibration_images == CALIBRATION_IMAGES
    assert parse_options([*words, "--calibration_images", "3"]).calibration_images == 3
