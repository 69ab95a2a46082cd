"""A trained model, or the demo of one, to the Hub: in one commit, whole or not at all."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import (
    CommitOperation,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    SpaceInfo,
)
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports

from .checkpoint import load_checkpoint
from .licenses import license_request, weights_license
from .model_card import model_card
from .picture import PICTURE_FILE, choose_picture
from .provenance import origins
from .record import read_record
from .space_readme import space_readme

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, PROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
EMBEDDINGS = "vocabularies.text_"  # and the name of a vocabulary: a tensor of the weights
SPACE_FILES = (
    "README.md",
    "app.py",
    "demo_about.py",
    "demo_inputs.py",
    "demo_kept.py",
    "demo_results.py",
    "demo_turns.py",
    "page.js",
    "style.css",
    "requirements.txt",
)
# all that the app needs of it
SPACE_MODULES = (
    "data/coco_format.py",
    "data/masks.py",
    "data/rle.py",
    "pictures/lettering.py",
    "pictures/overlay.py",
    "prediction/segments.py",
)
OWN_KINDS = ("*_dataseg.py", "model*.safetensors", WEIGHTS_INDEX, PICTURE_FILE)
"""Files of a model repository that an earlier publication may have left and a later one replaces.
"""

# what a failing server, network or file raises in huggingface_hub; uploads of weights are wrapped
# in RuntimeError
_FAILURES = (HTTPError, OSError, RuntimeError, ValueError)


class PublishError(RuntimeError):
    """The Hub did not take the commit; the message says what is there now and what to do."""


@dataclass(frozen=True)
class Publication:
    """What one commit holds.

    Args:
        files: name in the repository -> file on disk, or its content.
        variables: of a Space, by name.
        missing: what has to be said before it can be sent; empty if nothing.
    """

    repo: str
    repo_type: Literal["model", "space"]
    files: Mapping[str, Path | bytes]
    variables: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""

    def check(self) -> None:
        """Refuse (ValueError) what can be looked at, but not be sent."""
        if self.missing:
            raise ValueError(self.missing)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by name."""
        return {
            name: len(source) if isinstance(source, bytes) else source.stat().st_size
            for name, source in sorted(self.files.items())
        }

    def listing(self) -> str:
        """Every file with its size in bytes, and every variable, a line each."""
        sizes = self.sizes()
        lines = [f"{size:>13,}  {name}" for name, size in sizes.items()]
        lines += [f"{'variable':>13}  {name}={value}" for name, value in self.variables.items()]
        total = f"{len(sizes)} files, {sum(sizes.values()):,} bytes"
        return "\n".join([f"{self.repo_type} {self.repo}: {total}", *lines])


def publish(
    folder: str | Path,
    repo: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    picture: str | None = None,
    message: str = "Publish the model, its code and card",
    api: HfApi | None = None,
) -> str:
    """Publish the model of a run's folder: weights, config, processor, code and a model card, in
    one commit.

    Nothing else of the folder goes up. Files that arrived before a failure are not sent again by
    the next call, and an unchanged model makes no commit.

    Args:
        folder: where a run, or `checkpoint.save_checkpoint`, left a model.
        repo: id on the Hub, "owner/name"; made where it does not exist.
        private: of a new repository; by default what the owner's settings say.
        license: of the weights, as the Hub writes it ("apache-2.0"). It may be left out if a
            README.md in the folder states one, or if the model was trained from scratch on nothing
            but the drawn scenes of this package (then it is apache-2.0).
        picture: held-out set whose picture is shown on the card, or "none". By default only one of
            drawn scenes is shown.
        message: of the commit.
        api: where to, and as whom; by default what `hf auth login`, HF_TOKEN and HF_ENDPOINT say.

    Returns:
        Address of the commit.

    Raises:
        ValueError: for a folder that holds no whole model with its code, an id that cannot be, a
            license that is missing, or a picture that is not there; nothing was sent.
        PublishError: where the Hub did not take it.
    """
    publication = model_publication(folder, repo, license, picture, api)
    return send(publication, private=private, message=message, api=api)


def publish_space(
    folder: str | Path,
    repo: str,
    model: str,
    *,
    private: bool | None = None,
    api: HfApi | None = None,
) -> str:
    """Publish the demo as a Space that shows `model`, an id on the Hub; otherwise as `publish`."""
    return send(
        space_publication(folder, repo, model), private=private, message="Publish the demo", api=api
    )


def model_publication(
    folder: str | Path,
    repo: str,
    license: str | None = None,
    picture: str | None = None,
    api: HfApi | None = None,
) -> Publication:
    """What `publish` would send, checked; ValueError as there, but for a missing license, which
    `Publication.missing` tells.
    """
    folder = Path(folder)
    _check_repo(repo)
    files: dict[str, Path | bytes] = {name: folder / name for name in checkpoint_files(folder)}
    record = read_record(folder, repo)
    found = origins(record, api)
    license = weights_license(record, found, license)
    shown = choose_picture(record, picture)
    if shown is not None:
        files[PICTURE_FILE] = shown.path
    files[CARD] = model_card(record, repo, license, found, shown).encode()
    missing = "" if license else license_request(record, found)
    return Publication(repo, "model", files, missing=missing)


def space_publication(folder: str | Path, repo: str, model: str) -> Publication:
    """What `publish_space` would send: the demo, its examples, and the modules of this package that
    it imports.

    Raises:
        ValueError: for a folder without the demo.
    """
    _check_repo(repo)
    missing = [name for name in SPACE_FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise ValueError(f"{folder} is not the folder of the demo: it has no {', '.join(missing)}")
    package = Path(__file__).parent.parent
    files: dict[str, Path | bytes] = {name: Path(folder) / name for name in SPACE_FILES}
    files[CARD] = space_readme(Path(folder) / CARD, model).encode()
    files |= {
        f"examples/{file.name}": file for file in sorted((Path(folder) / "examples").glob("*.png"))
    }
    files |= {f"{package.name}/{name}": package / name for name in SPACE_MODULES}
    for folder in {
        package.name,
        *(f"{package.name}/{Path(name).parent}" for name in SPACE_MODULES),
    }:
        files[f"{folder}/__init__.py"] = b'"""The part of the package that the demo needs."""\n'
    return Publication(repo, "space", files, {"DATASEG_MODEL": model})


def _check_repo(repo: str) -> None:
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ValueError(f"repo: {error}") from error
    if "/" not in repo:
        raise ValueError(f"repo: '{repo}' names no owner; write owner/name")


# --- what a model consists of ---------------------------------------------------------------------


def checkpoint_files(folder: str | Path) -> list[str]:
    """Names of the files that a checkpoint needs to load by itself, card aside.

    Raises:
        ValueError: for a checkpoint that cannot load by itself; the message says what is wrong.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"{folder} is a file; name the folder of the model")
    config = _read_json(folder / CONFIG)
    if config.get("model_type") != "dataseg":
        raise ValueError(f"{folder / CONFIG}: is a '{config.get('model_type')}' model, not DaTaSeg")
    if not config.get("vocabularies"):
        raise ValueError(
            f"{folder / CONFIG}: stores no vocabulary, so the model could name nothing; add one "
            "first"
        )
    tower = (config.get("text_encoder") or {}).get("name_or_path", "")
    if tower and (Path(tower).is_dir() or tower.startswith(("/", ".", "~"))):
        raise ValueError(
            f"{folder / CONFIG}: text_encoder is the local folder '{tower}', which nobody else "
            "has; write the id of "
            "that tower on the Hub there, or null, with which the stored vocabularies still work"
        )
    processor = _read_json(folder / PROCESSOR)
    weights = _weight_files(folder)
    _check_embeddings(folder, config, weights)
    names = [CONFIG, PROCESSOR, *weights, *_code_files(folder, config, processor)]
    load_checkpoint(str(folder), "model")  # nobody gets what does not load here
    return sorted(set(names))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{file.parent} holds no model: there is no {file.name}; give a finished run"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must hold an object")
    return content


def _weight_files(folder: Path) -> list[str]:
    """The weights, whole: one file, or an index and the shards that it lists."""
    shards = {WEIGHTS}
    names: list[str] = []
    if (folder / WEIGHTS_INDEX).is_file():
        places = _read_json(folder / WEIGHTS_INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(n, str) for n in places.values()):
            raise ValueError(f"{folder / WEIGHTS_INDEX}: has no weight_map; save the model again")
        shards = set(places.values())
        names = [WEIGHTS_INDEX]
    for shard in sorted(shards):
        if not (folder / shard).is_file() or Path(shard).name != shard:
            raise ValueError(
                f"{folder} holds no weights: there is no {shard}; only safetensors are published"
            )
        try:
            with safe_open(folder / shard, framework="pt") as file:
                file.keys()
        except SafetensorError as error:
            raise ValueError(
                f"{folder / shard}: is not a whole safetensors file ({error}); save it again"
            ) from error
    return [*names, *sorted(shards)]


def _check_embeddings(folder: Path, config: Mapping[str, Any], weights: Iterable[str]) -> None:
    """ValueError for a vocabulary of the config whose embeddings the weights lack."""
    shapes: dict[str, list[int]] = {}
    for name in weights:
        if name != WEIGHTS_INDEX:
            with safe_open(folder / name, framework="pt") as file:
                keys = [key for key in list(file.keys()) if key.startswith(EMBEDDINGS)]
                shapes |= {key: file.get_slice(key).get_shape() for key in keys}
    for name, vocabulary in config["vocabularies"].items():
        if shapes.get(EMBEDDINGS + name, [0])[0] != len(vocabulary["labels"]):
            raise ValueError(
                f"{folder / CONFIG}: names a vocabulary '{name}' of {len(vocabulary['labels'])} "
                "labels, whose text embeddings the weights do not hold; add it with "
                "model.add_vocabulary and save the model again"
            )


def _code_files(folder: Path, config: Mapping[str, Any], processor: Mapping[str, Any]) -> list[str]:
    """The files of code that the config, its pipeline and the processor name, and all that these
    import.
    """
    without = f"{folder} holds a model without its code, which would load nowhere"
    cure = "save it with dataseg_hf.sharing.checkpoint.save_checkpoint"
    references = (config.get("auto_map"), processor.get("auto_map"))
    for file, reference in zip((CONFIG, PROCESSOR), references, strict=True):
        if not reference or not isinstance(reference, dict):
            raise ValueError(f"{without}: {file} has no auto_map; {cure}")
    named = [*config["auto_map"].values(), *processor["auto_map"].values()]
    named += [pipeline["impl"] for pipeline in config.get("custom_pipelines", {}).values()]
    for reference in named:
        if "--" in reference:
            raise ValueError(
                f"{without}: {CONFIG} takes '{reference}' from another repository; {cure}"
            )
    wanted = {f"{reference.partition('.')[0]}.py" for reference in named}
    found: set[str] = set()
    while wanted - found:
        name = min(wanted - found)
        if not (folder / name).is_file():
            raise ValueError(f"{without}: there is no {name}; {cure}")
        found.add(name)
        wanted |= {f"{module}.py" for module in get_relative_imports(folder / name)}
    return sorted(found)


# --- sending --------------------------------------------------------------------------------------


def send(
    publication: Publication, *, private: bool | None, message: str, api: HfApi | None = None
) -> str:
    """Make the repository where it is missing and commit everything at once; returns the address of
    the commit.

    The commit is refused where another one came in between, so that two publications never mix.

    Raises:
        ValueError: for what is not ready to be sent.
        PublishError: where the Hub did not take it.
    """
    publication.check()
    api = HfApi() if api is None else api
    repo, repo_type = publication.repo, publication.repo_type
    try:
        api.create_repo(
            repo,
            repo_type=repo_type,
            private=private,
            exist_ok=True,
            space_sdk="gradio" if repo_type == "space" else None,
        )
        before = _info(publication, api)
        for name, value in publication.variables.items():
            api.add_space_variable(repo, name, value)
        there = [file.rfilename for file in before.siblings or []]
        commit = api.create_commit(
            repo,
            list(_operations(publication, there)),
            commit_message=message,
            repo_type=repo_type,
            parent_commit=before.sha,
        )
    except _FAILURES as error:
        raise PublishError(
            f"{repo} was not published: {_one_line(error)}. No commit was confirmed, so the "
            "repository holds what it held before, or all of this, never a part. Try again: what "
            "has arrived is not sent again"
        ) from error
    _check_arrived(publication, api)
    return str(commit.commit_url)


def _info(
    publication: Publication, api: HfApi, files_metadata: bool = False
) -> ModelInfo | SpaceInfo:
    """What the repository holds now."""
    ask = api.model_info if publication.repo_type == "model" else api.space_info
    return ask(publication.repo, files_metadata=files_metadata)


def _operations(publication: Publication, there: Iterable[str]) -> Iterator[CommitOperation]:
    for name, source in sorted(publication.files.items()):
        yield CommitOperationAdd(name, source)
    if publication.repo_type == "model":
        for name in sorted(set(there) - set(publication.files)):
            if any(Path(name).match(kind) and "/" not in name for kind in OWN_KINDS):
                yield CommitOperationDelete(name, is_folder=False)


def _check_arrived(publication: Publication, api: HfApi) -> None:
    """PublishError where a file of the commit is not there: a `.gitignore` on the Hub leaves files
    out in silence.
    """
    try:
        info = _info(publication, api, files_metadata=True)
    except _FAILURES as error:
        raise PublishError(
            f"{publication.repo} took the commit, but cannot be read back: {_one_line(error)}"
        ) from error
    there = {file.rfilename: file.size for file in info.siblings or []}
    wrong = [name for name, size in publication.sizes().items() if there.get(name) != size]
    if wrong:
        raise PublishError(
            f"{publication.repo} took the commit, but {wrong} did not arrive as sent; see whether "
            "a .gitignore of the repository names them"
        )


def _one_line(error: BaseException) -> str:
    """The message of an error, and of what caused it, in one line."""
    parts = [" ".join(str(error).split()) or type(error).__name__]
    if error.__cause__ is not None:
        parts.append(_one_line(error.__cause__))
    return ": ".join(part.rstrip(".") for part in parts)
