"""The sdist and the wheel: what is in them, and that the wheel works where the checkout is not."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from dataseg_hf.sharing.checkpoint import save_checkpoint
from dataseg_hf.version import __version__
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
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
    """What the package consists of: its modules and the marker of its type hints."""
    source = ROOT / "src"
    return {
        str(f.relative_to(source))
        for p in ("*.py", "*.md", "py.typed")
        for f in (source / "dataseg_hf").rglob(p)
    }


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"dataseg_hf-{__version__}-py3-none-any.whl"
    info = f"dataseg_hf-{__version__}.dist-info"
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {
        f"{info}/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE")
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
    assert required == {"torch", "transformers", "numpy", "scipy", "pillow", "safetensors"}


def test_the_installed_wheel_works_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that sees the packages of this one, but not the checkout."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin/python"
    used = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    used.pop("PYTHONPATH", None)  # may lead to the checkout
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    install = [*pip, "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, env=used, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "around.pth").write_text(sysconfig.get_path("purelib") + "\n")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), tmp_path / "model")
    for command in (["-c", USE], ["-m", "dataseg_hf.metrics", "--help"]):
        done = subprocess.run(
            [str(python), "-I", *command],
            cwd=tmp_path,
            env=used,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
