"""What a user gives the demo: an image, words. All of it is checked, and mistakes are explained."""

import re
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from PIL import Image

MAX_PIXELS = 50_000_000  # of an image, before it is decoded
LONGEST_SIDE = 1280  # larger images are reduced
MAX_WORDS, LONGEST_WORD = 100, 60


class InputError(ValueError):
    """Something that the user can change. The message is for the user.

    Args:
        place: next to which control of the page it is shown: "image", "words" or "button".
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


def uploaded_file(upload: Any) -> Path:
    """The file of an upload as Gradio describes it; InputError for none, or one that was not
    uploaded to this app.
    """
    if upload is None:
        raise InputError("image", "Choose an image first.")
    path = Path(str(upload.get("path") if isinstance(upload, dict) else None)).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise InputError(
            "image", "Upload the image: files of the server and addresses are not read."
        )
    return path


def read_image(path: str | Path, image_processor: Any) -> Image.Image:
    """RGB, upright, no larger than is shown, read as in training.

    Raises:
        InputError: for a file that is no image, or too many pixels; the message is for the user.
    """
    try:
        with Image.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                raise InputError(
                    "image",
                    f"The image has {file.width} x {file.height} pixels; at most "
                    f"{MAX_PIXELS // 1_000_000} million are taken. Reduce it first.",
                )
            image = image_processor.read_image(file)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            "image", "This file is no image that can be read. Try a JPEG or PNG."
        ) from error
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image


def parse_words(text: str | None) -> list[str]:
    """The words typed, without repetition; none where nothing was typed.

    Raises:
        InputError: for too many, too long ones, or none among the commas; the message is for the
            user.
    """
    text = str(text or "")
    words = [" ".join(word.split()) for word in re.split(r"[,;\n]", text)]
    distinct = list(dict.fromkeys(word for word in words if word))
    if text.strip() and not distinct:
        raise InputError(
            "words", "There is no word between the commas: type some, or leave the field empty."
        )
    if len(distinct) > MAX_WORDS:
        raise InputError(
            "words",
            f"These are {len(distinct)} words; at most {MAX_WORDS} are taken. Leave some out.",
        )
    for word in distinct:
        if len(word) > LONGEST_WORD:
            raise InputError(
                "words",
                f"'{word[:20]}...' is longer than {LONGEST_WORD} letters. "
                "Put commas between words.",
            )
        if not any(letter.isalnum() for letter in word):
            raise InputError(
                "words", f"'{word}' holds no letter or digit: there is nothing to look for."
            )
    return distinct
