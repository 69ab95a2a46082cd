"""The sdist and the wheel: what is in them, and that the wheel works where the checkout is not."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from dataseg_hf.commands import COMMANDS
from dataseg_hf.sharing.checkpoint import save_checkpoint
from dataseg_hf.version import __version__
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.docs_blocks import blocks
from helpers.docs_commands import lines_of, smaller_arguments
from helpers.docs_smaller import PLACEHOLDERS, SMALLER
from helpers.docs_world import DATA, make_files, use_exports
from helpers.paths import ROOT

pytestmark = pytest.mark.slow
SOURCES = ("src", "README.md", "LICENSE", "MANIFEST.in", "pyproject.toml", "setup.cfg")
"""What a build reads of a checkout; the rest only tempts it to take too much."""
TEMPTING = ("tests", "examples", "outputs/shapes", "docs")
USE = """
import importlib, pkgutil, sys
from importlib.metadata import version

import dataseg_hf

assert dataseg_hf.__file__.startswith(sys.prefix), dataseg_hf.__file__
assert version("dataseg-hf") == dataseg_hf.__version__
for module in pkgutil.walk_packages(dataseg_hf.__path__, "dataseg_hf."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline

model, processor = AutoModel.from_pretrained("model"), AutoImageProcessor.from_pretrained("model")
segment = pipeline("image-segmentation", model=model, image_processor=processor)
found = segment(Image.fromarray(np.full((40, 60, 3), 128, np.uint8)), subtask="semantic")
assert sum(np.asarray(part["mask"]).astype(bool).sum() for part in found) == 40 * 60
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist and of the wheel that was built from it, as `python -m build` makes
    them.
    """
    checkout = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, checkout / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
            )
        else:
            shutil.copy(source, checkout / name)
    for name in TEMPTING:
        (checkout / name).mkdir(parents=True)
        (checkout / name / "test_something.py").write_text("")
    # without isolation: the build system is here already, and a test downloads nothing
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def files_of_the_package() -> set[str]:
    """What the package consists of: its modules, the ready configs, the marker of its type hints."""
    source = ROOT / "src"
    return {
        str(f.relative_to(source))
        for p in ("*.py", "configs/*.yaml", "sharing/*.md", "py.typed")
        for f in (source / "dataseg_hf").rglob(p)
    }


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"dataseg_hf-{__version__}-py3-none-any.whl"
    info = f"dataseg_hf-{__version__}.dist-info"
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {
        f"{info}/{name}"
        for name in (
            "METADATA",
            "WHEEL",
            "RECORD",
            "entry_points.txt",
            "top_level.txt",
            "licenses/LICENSE",
        )
    }
    assert names == files_of_the_package() | about


def test_the_sdist_holds_what_the_wheel_is_built_from_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {
            name.partition("/")[2]
            for name in archive.getnames()
            if archive.getmember(name).isfile()
        }
    generated = {name for name in names if name == "PKG-INFO" or ".egg-info/" in name}
    package = {f"src/{name}" for name in files_of_the_package()}
    assert names - generated == package | {name for name in SOURCES if (ROOT / name).is_file()}


def test_the_metadata_is_valid_and_its_long_description_the_readme(wheel: Path) -> None:
    parsed = Metadata.from_email(
        zipfile.ZipFile(wheel).read(f"dataseg_hf-{__version__}.dist-info/METADATA")
    )
    assert (parsed.name, str(parsed.version)) == ("dataseg-hf", __version__)
    assert parsed.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert parsed.description_content_type is not None
    assert parsed.description_content_type.startswith("text/markdown")
    assert parsed.license_expression == "Apache-2.0"
    assert parsed.license_files == ["LICENSE"]
    assert parsed.provides_extra is not None
    assert {"train", "demo", "export", "test"} <= set(parsed.provides_extra)
    required = {
        requirement.name for requirement in parsed.requires_dist or [] if requirement.marker is None
    }
    assert required == {
        *("torch", "transformers", "numpy", "scipy", "pillow", "safetensors", "filelock"),
    }


# --- where the checkout is not --------------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own, which sees the packages of this one, but not the
    checkout.

    Args:
        programs: folder of the environment's programs.
        folder: where commands run, in which a reader's files lie.
    """

    programs: Path
    folder: Path

    def run(self, *command: str) -> str:
        """Output of a command of the environment that must end well."""
        used = {
            **os.environ,
            "DATA": str(self.folder / DATA),
            "DATASEG_CACHE": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
        }
        used.pop("PYTHONPATH", None)  # may lead to the checkout
        done = subprocess.run(
            [str(self.programs / command[0]), *command[1:]],
            cwd=self.folder,
            env=used,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def type(self, line: str) -> str:
        """Output of a line of the pages, made smaller where it would take long."""
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)]
        words += smaller_arguments(SMALLER, " ".join(words[:4]), words[4:])
        if words[:2] == ["accelerate", "launch"]:  # its program is in the environment around
            words = ["python", "-m", "accelerate.commands.launch", "--num_processes=1", *words[2:]]
        return self.run(*words)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install"]
    (site_packages,) = environment.glob("lib/python*/site-packages")
    for needed in (["--no-deps", str(wheel)], ["dataseg-hf[train]"]):
        done = subprocess.run(
            [*pip, "--no-index", *needed], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        # the second call finds all that `train` requires there, in versions that fit
        (site_packages / "around.pth").write_text(sysconfig.get_path("purelib") + "\n")
    folder = tmp_path_factory.mktemp("anywhere")
    make_files(folder)
    return Installed(environment / "bin", folder)


def test_the_installed_package_imports_and_loads_a_model(installed: Installed) -> None:
    save_checkpoint(checkpoint_model(), checkpoint_processor(), installed.folder / "model")
    installed.run("python", "-I", "-c", USE)


BEYOND_THE_README = (
    "dataseg evaluate --model outputs/shapes --config shapes --metrics all --export "
    "--output_dir outputs/shapes_scores",
    "python -m dataseg_hf predict --model outputs/shapes --input folder/ --output others",
    "dataseg label --teacher hustvl/yolos-tiny --images folder --output outputs/labels",
    "dataseg complete --model outputs/shapes --config shapes --output outputs/completed "
    "--datasets shapes_boxes",
    "dataseg doctor --model outputs/shapes --config shapes --output outputs/suggestions "
    "--datasets shapes_boxes",
    "dataseg probe --config shapes --model outputs/shapes --output_dir outputs/shapes_probe",
    "dataseg export --model outputs/shapes --output shapes.pt2",
    "dataseg publish --model outputs/shapes --repo me/dataseg-shapes --dry_run",
    "dataseg metrics panoptic --gt_json gt.json --gt_dir gt --pred_json pred.json --pred_dir pred",
    "python -m dataseg_hf.metrics --help",
)
"""What people type besides the README's lines, with the model that these have trained."""
OURS = re.compile(r"(dataseg|python -m dataseg_hf|accelerate launch -m dataseg_hf)\b")


def lines_of_the_readme() -> list[str]:
    """Lines of the README that need no clone, in order."""
    shell = [block for block in blocks("README.md") if block.language in ("bash", "sh", "shell")]
    return [line for block in shell for line in lines_of(block.text) if OURS.match(line)]


def test_every_command_runs_outside_of_the_checkout(installed: Installed) -> None:
    """The README's lines, each once, and one for each command and way to start that it lacks."""
    lines = [*lines_of_the_readme(), *BEYOND_THE_README]
    listed = installed.run("dataseg", "--help")
    for command in COMMANDS:
        assert any(re.search(rf"\b{command}\b", line) for line in lines)
        assert f"  {command} " in listed
    assert any(line.startswith("accelerate launch -m") for line in lines)
    outputs = {}
    for line in lines:
        if " metrics panoptic" in line:
            use_exports(installed.folder, "panoptic")
        outputs[line] = installed.type(line)
    assert (installed.folder / "outputs/shapes/model.safetensors").is_file()
    assert (installed.folder / "predictions/overlays/photo.png").is_file()
    assert (installed.folder / "others/overlays/one.png").is_file()
    assert re.search(r"^pq +0\.\d{4}$", outputs[BEYOND_THE_README[-2]], re.MULTILINE)


def test_the_readme_installs_extras_that_there_are(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"dataseg_hf-{__version__}.dist-info/METADATA")
    provided = set(Metadata.from_email(metadata).provides_extra or ())
    named = re.findall(r"dataseg[-_]hf\[([\w,]+)\]", (ROOT / "README.md").read_text("utf-8"))
    assert {extra for names in named for extra in names.split(",")} <= provided
