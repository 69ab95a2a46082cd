"""`checkpoints/photos-small` from the run of the ready config `photos_small`: its weights in half
precision and its card, without a copy of the package's code.

python checkpoints/make_photos_small.py [RUN]     # by default outputs/photos_small
"""

import json
import re
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from dataseg_hf.sharing.publishing import model_publication

FOLDER = Path(__file__).parent / "photos-small"
SETTINGS = ("config.json", "preprocessor_config.json")
CODE_REFERENCES = ("auto_map", "custom_pipelines")
LICENSE = "apache-2.0"
# what the card cannot know of a local teacher, and of a folder without code
CODE = (
    r"The code comes with the model\. .*?\. It needs",
    "This folder holds no code: install the package and `import dataseg_hf` first. It needs",
)
ORIGIN = (
    r"- The backbone started with .*?\n\n",
    """\
- The backbone, the head and the classes of the cells are those of DeepLabV3 with MobileNetV2,
  trained on PASCAL VOC: `deeplabv3_mnv2_pascal_quant.tflite` of google-coral's test data
  (Apache-2.0), dequantized into a transformers checkpoint.
- The labels of `voc` are that model's, on 100 photographs of COCO. It reaches 0.487 mIoU on the
  photographs of `voc_val`.
- COCO's 133 names were learned from 100 photographs, far too few: take the vocabulary `voc`.

""",
)


def main(run: Path) -> None:
    """Write the folder."""
    FOLDER.mkdir(exist_ok=True)
    for name in SETTINGS:
        settings = json.loads((run / name).read_text())
        kept = {key: value for key, value in settings.items() if key not in CODE_REFERENCES}
        (FOLDER / name).write_text(json.dumps(kept, indent=2) + "\n")
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(run / "model.safetensors").items()
    }
    save_file(weights, FOLDER / "model.safetensors", metadata={"format": "pt"})
    card = model_publication(run, f"checkpoints/{FOLDER.name}", LICENSE).files["README.md"]
    assert isinstance(card, bytes)
    text = card.decode().replace(", trust_remote_code=True)", ")")
    text = text.replace("; this repository holds what is needed to load the model.", ".")
    for pattern, words in (CODE, ORIGIN):
        text, count = re.subn(pattern, words, text, flags=re.DOTALL)
        assert count == 1, pattern
    (FOLDER / "README.md").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/photos_small"))
