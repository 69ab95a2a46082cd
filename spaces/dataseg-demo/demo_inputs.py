"""What a user gives the demo: an image, words. All of it is checked, and mistakes are explained."""

import re
from pathlib import Path
from typing import Any

from PIL import Image

MAX_PIXELS = 50_000_000  # of an image, before it is decoded
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # a file chooses its decoder
LONGEST_SIDE = 1280  # larger images are reduced
MAX_WORDS, LONGEST_WORD = 100, 60
LONGEST_TEXT = 100 * MAX_WORDS  # letters, with what stands between the words


class InputError(ValueError):
    """Something that the user can change. The message is for the user.

    Args:
        place: next to which control of the page it is shown: "image", "words" or "button".
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


def uploaded_file(upload: Any, uploads: Path) -> Path:
    """The file of an upload as Gradio describes it; InputError for none, or for a file that is not
    among the app's uploads.
    """
    if upload is None:
        raise InputError("image", "Choose an image first.")
    path = Path(str(upload.get("path") if isinstance(upload, dict) else None)).resolve()
    if not path.is_relative_to(uploads) or not path.is_file():
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
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise InputError(
                    "image",
                    f"The image has {file.width} x {file.height} pixels; at most "
                    f"{MAX_PIXELS // 1_000_000} million are taken. Reduce it first.",
                )
            image = image_processor.read_image(file)
    except InputError:
        raise
    except Exception as error:  # decoders raise more than they document
        raise InputError(
            "image", "This file is no image that can be read. Try a JPEG or PNG."
        ) from error
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image


def checked_vocabulary(name: Any, model: Any) -> str:
    """The name of a stored vocabulary; InputError for anything else, a list of words included."""
    if name is None:
        raise InputError("words", "Choose a vocabulary of the model, or type words of your own.")
    if not isinstance(name, str) or len(name) > LONGEST_WORD:
        raise InputError("words", "A vocabulary of the model is asked for by its name.")
    try:
        model.stored_vocabulary(name)
    except ValueError as error:
        raise InputError("button", str(error)[:500]) from error
    return name


def checked_share(value: Any, what: str) -> float:
    """A number in 0..1; InputError for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise InputError("button", f"The {what} must lie in 0..1, not {str(value)[:20]}.")
    return float(value)


def parse_words(text: Any) -> list[str]:
    """The words typed, without repetition; none where nothing was typed.

    Raises:
        InputError: for too many, too long ones, none among the commas, or what is no text; the
            message is for the user.
    """
    text = "" if text is None else text
    if not isinstance(text, str):
        raise InputError("words", "Words are one text, with commas between them.")
    if len(text) > LONGEST_TEXT:
        raise InputError(
            "words", f"The text has {len(text)} letters; at most {LONGEST_TEXT} are taken."
        )
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
