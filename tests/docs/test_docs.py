"""Every code block of the pages is run; one that nothing here can run fails, so that no page
promises what is not true.

The set-up commands (`docs_commands.SET_UP`) and blocks of output (`text`) aside. A block's language
decides:

    python   runs as it stands, after the blocks before it on its page
    bash     each line runs, in this process; SMALLER makes long ones short
    console  the lines behind `$ ` run and must print what the page shows; numbers may differ for a model of our own
    yaml     goes through the settings' own reader; its datasets are loaded
"""

import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataseg_hf.data.sample import SampleDataset, Segments
from dataseg_hf.settings.datasets import load_source, training_mix
from dataseg_hf.settings.model import build_model, run_text_encoder
from dataseg_hf.settings.parsing import parse_run_config
from helpers.docs_blocks import PAGES, Block, blocks, markdown_blocks, rst_blocks
from helpers.docs_commands import Shell, UnknownLineError, lines_of, says, transcript
from helpers.docs_smaller import PLACEHOLDERS, SMALLER
from helpers.docs_world import DATA, make_world, settings, use_exports
from helpers.example_scripts import demo_app
from helpers.hub_server import HubServer

pytestmark = pytest.mark.slow

NEEDS_REAL_DATA = re.compile(r"DATASEG_DATA|(CONFIG=|--config )photos|bdd_sem_seg")
TRAINING = "make cotrain"
SCORING = (
    "python examples/evaluate.py --model outputs/shapes --config shapes "
    "--output_dir outputs/shapes_scores --metrics all --export"
)
ALL = [block for page in PAGES for block in blocks(page)]


# --- what blocks run in ---------------------------------------------------------------------------


@dataclass
class World:
    """What the blocks find and leave.

    Args:
        folder: stands for the root of the checkout.
        shell: runs lines there.
        names: of Python, by page.
        done: Python blocks that have run.
        space: address of the demo, while it runs.
    """

    folder: Path
    shell: Shell
    names: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: set[Block] = field(default_factory=set)
    space: str = ""


@pytest.fixture(scope="module")
def whole_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A folder with all that the pages speak of, the model of `make cotrain` and its scores
    included.
    """
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    cache = tmp_path_factory.mktemp("cache")  # of text embeddings
    world = World(
        folder, Shell(folder, SMALLER, PLACEHOLDERS, exported={"DATASEG_CACHE": str(cache)})
    )
    for line in (TRAINING, SCORING):
        code, output = world.shell.run(line)
        assert code == 0, output
    # a folder stands for the model of the Hub that the pages load
    (folder / "org" / "dataseg").symlink_to(folder / "outputs" / "shapes")
    return world


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block may need a network; servers on this machine are none."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"no network in this test: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """The Hub that blocks publish to."""
    with HubServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", server.token)
        yield server


@pytest.fixture
def world(
    whole_world: World, hub: HubServer, evaluate_caches: None, monkeypatch: pytest.MonkeyPatch
) -> World:
    """The world with its data and its Hub, as the working folder."""
    monkeypatch.chdir(whole_world.folder)
    monkeypatch.setenv("DATA", str(whole_world.folder / DATA))
    return whole_world


# --- python ---------------------------------------------------------------------------------------


def panoptic_names() -> dict[str, Any]:
    """A predicted and a true image of two segments, as the page on evaluation calls them."""
    pred_map = np.array([[1, 1], [2, 2]])
    infos = [{"id": 1, "label_id": 0, "score": 0.9}, {"id": 2, "label_id": 1, "score": 0.8}]
    true_infos = [{"id": 1, "label_id": 0, "iscrowd": 0}, {"id": 2, "label_id": 1, "iscrowd": 0}]
    truth = Segments(
        np.array([[0, 0], [1, 1]], np.int32), np.array([0, 1]), np.array([False, False])
    )
    return {
        "labels": ["cat", "grass"],
        "is_thing": [True, False],
        "images": [(pred_map, infos, truth)],
        "pred_map": pred_map,
        "infos": infos,
        "true_map": pred_map,
        "true_infos": true_infos,
    }


def panoptic_space() -> dict[str, Any]:
    names = panoptic_names()
    return {
        "prediction": {"segmentation": names["pred_map"], "segments_info": names["infos"]},
        "truth": {"segmentation": names["true_map"], "segments_info": names["true_infos"]},
    }


def mask_space() -> dict[str, Any]:
    mask = {"size": [2, 2], "counts": "04"}  # run lengths 0 and 4: all of it
    shapes: dict[str, Any] = {"masks": [mask], "boxes": [], "label_ids": [1]}
    return {"prediction": {**shapes, "scores": [0.5]}, "truth": {**shapes, "iscrowd": [0]}}


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/evaluation.md": panoptic_names,
    "spaces/panoptic_quality/README.md": panoptic_space,
    "spaces/mean_iou/README.md": lambda: {"class_map": [[0, 1]], "true_map": [[0, 1]]},
    "spaces/mask_ap/README.md": mask_space,
}
"""Names that a page leaves to the reader."""


def run_python(block: Block, world: World) -> None:
    """Run a block after those before it on its page, in the names that they left."""
    names = world.names.setdefault(
        block.page, {**GIVEN.get(block.page, dict)(), "__name__": block.page}
    )
    for earlier in blocks(block.page):
        if (
            earlier.language == "python"
            and earlier.line <= block.line
            and earlier not in world.done
        ):
            # as many lines above it as on the page, for the line numbers of errors
            text = "\n" * earlier.line + earlier.text.replace("SPACE", world.space)
            exec(compile(text, earlier.page, "exec"), names)
            world.done.add(earlier)


@pytest.fixture
def space(block: Block, world: World) -> Iterator[None]:
    """The demo on the trained model, where a block calls it."""
    if block.language != "python" or "SPACE" not in block.text:
        yield
        return
    app = demo_app()
    demo = app.build_demo(Path("outputs/shapes"))
    _, world.space, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    yield
    demo.close()


# --- shell and settings ---------------------------------------------------------------------------


def run_line(line: str, world: World) -> tuple[int, str]:
    """One line, the files that it reads laid out before."""
    if NEEDS_REAL_DATA.search(line) and "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    if match := re.match(r"(?:python -m dataseg_hf\.|dataseg )metrics (\w+)", line):
        use_exports(world.folder, match[1])
    return world.shell.run(line)


def run_bash(block: Block, world: World) -> None:
    """Run the lines, after what Python blocks before them write."""
    if block.page == "docs/warm_start.md":
        run_python(block, world)
    for line in lines_of(block.text):
        code, output = run_line(line, world)
        assert code == 0, f"{block}: `{line}` ended with exit code {code}:\n{output[-3000:]}"


def run_console(block: Block, world: World) -> None:
    for line, promised in transcript(block.text):
        _, output = run_line(line, world)
        of_our_model = "outputs/" in line or "$" in line
        assert says(output, promised, numbers=not of_our_model), (
            f"{block}: `{line}` printed\n{output[-3000:]}"
        )


def run_yaml(block: Block, world: World) -> None:
    """Read the settings, load an image of each dataset, and make the model where they say from
    what.
    """
    if block.file:  # whole as it stands, and what the page's commands name
        file = world.folder / block.file
        file.write_text(block.text)
    else:
        file = world.folder / "block.yaml"
        file.write_text(settings(block.text))
    config = parse_run_config(["--config", str(file)], file)
    members = training_mix(config)
    loaded = [member.data for member in members]
    loaded += [
        load_source(entry, f"evaluation.{name}") for name, entry in config.evaluation.items()
    ]
    for data in loaded:
        assert isinstance(data, SampleDataset)
        assert data[0].image.size > 0
    if config.mask2former_weights is not None:
        build_model(config, members, run_text_encoder(config))


RUNNERS = {"python": run_python, "bash": run_bash, "console": run_console, "yaml": run_yaml}
OUTPUT = ("text", "bibtex")


# --- the blocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=str(block)) for block in ALL if block.language not in OUTPUT]
)
def test_block(block: Block, world: World, space: None) -> None:
    assert block.language in RUNNERS, (
        f"{block}: a block of language '{block.language}'; name one of {[*RUNNERS, *OUTPUT]} "
        "behind its fence"
    )
    RUNNERS[block.language](block, world)


# --- that a block which is wrong, or new, fails ---------------------------------------------------


def test_every_page_is_looked_at() -> None:
    assert {
        "README.md",
        "CONTRIBUTING.md",
        "docs/datasets.md",
        "spaces/dataseg-demo/README.md",
    } <= set(PAGES)
    assert {block.page for block in ALL} >= {
        "README.md",
        "docs/evaluation.md",
        "docs/publishing.md",
    }


def test_blocks_are_found_where_markdown_has_them() -> None:
    text = (
        "a\n\n- item\n\n  ```python\n  x = 1\n  ```\n\n```bash "
        "extra\nls\n```\n\n~~~\nplain\n~~~\n\n    indented\n"
    )
    found = [(block.line, block.language, block.text) for block in markdown_blocks("p.md", text)]
    assert found == [
        (5, "python", "x = 1\n"),
        (9, "bash", "ls\n"),
        (13, "", "plain\n"),
        (17, "", "indented\n"),
    ]


def test_blocks_are_found_where_restructuredtext_has_them() -> None:
    text = (
        ".. code-block:: bash\n   :linenos:\n\n   ls\n\n     -a\n\nthus::\n\n  x\n\n.. figure:: "
        "a.png\n\n   b\n"
    )
    found = [(block.line, block.language, block.text) for block in rst_blocks("p.rst", text)]
    assert found == [(1, "bash", "ls\n\n  -a\n"), (8, "", "x\n")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cargo build", r"no test knows how to run `cargo build`"),
        ("python benchmarks/data.py", r"may take long: add how a test runs it to SMALLER"),
        (
            "python examples/predict.py --model $NOWHERE",
            r"`\$NOWHERE` names a variable that no line before it sets",
        ),
        ("export SOMETHING=...", r"say in PLACEHOLDERS of docs_smaller.py"),
    ],
)
def test_a_line_that_nothing_can_run_fails(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownLineError, match=message):
        Shell(tmp_path, SMALLER, PLACEHOLDERS).run(line)


def test_lines_that_are_wrong_end_with_an_exit_code(tmp_path: Path) -> None:
    shell = Shell(tmp_path, SMALLER, PLACEHOLDERS)
    assert shell.run("make no-such-target")[0] == 2
    assert shell.run("python -m pytest tests/docs/test_docs.py -k no_such_test")[0] == 4
    code, output = shell.run(
        "python -m dataseg_hf.metrics semantic --gt_dir gt --pred_dir pred --num_classes 3"
    )
    assert code == 2
    assert "error: gt: " in output


def test_shell_lines_are_joined_and_comments_left_out() -> None:
    text = "# a comment\nA=1\n\npython x.py \\\n    --b  # why\n"
    assert lines_of(text) == ["A=1", "python x.py --b  # why"]
    assert transcript("$ a \\\n  b\none\ntwo\n$ c\n") == [("a b", "one\ntwo\n"), ("c", "")]
    with pytest.raises(UnknownLineError, match="what is only output is `text`"):
        transcript("a\n$ b\n")


def test_what_a_transcript_promises() -> None:
    assert says("ap  0.25\nar  0.50\nend", "ap  0.25\n...\nend\n", numbers=True)
    assert says("ap  0.25\n", "ap  0.31\n", numbers=False)
    assert says("\rloading 0 of 9\rloading 9 of 9\nap  0.25\n", "ap  0.25\n", numbers=True)
    assert not says("ap  0.25\n", "ap  0.31\n", numbers=True)
    assert not says("ap  0.25\nmore\n", "ap  0.25\n", numbers=True)
