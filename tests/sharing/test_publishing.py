"""From a folder to a Hub on this machine and back, with everything that can go wrong on the way."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi, SpaceCard, hf_hub_download, snapshot_download
from PIL import Image
from safetensors.torch import load_file

from dataseg_hf import DaTaSegPipeline
from dataseg_hf.sharing.checkpoint import save_checkpoint
from dataseg_hf.sharing.publishing import (
    PublishError,
    checkpoint_files,
    model_publication,
    publish,
    publish_space,
)
from helpers import warm_python
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.finished_run import finished_run
from helpers.hub_server import HubServer
from helpers.paths import ROOT

pytestmark = pytest.mark.slow

SPACE = ROOT / "spaces" / "dataseg-demo"
REPO = "someone/tiny"


def card_of(folder):
    return model_publication(folder, REPO).files["README.md"].decode()


def blocks(card, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, with all that a run leaves."""
    return finished_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run_folder(finished, tmp_path):
    """The same, to be changed by a test."""
    folder = tmp_path / "run"
    folder.mkdir()
    for file in finished.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with HubServer() as server:
        yield server


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def no_waits(monkeypatch):
    """The client tries again at once instead of after seconds."""
    quick = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", quick)


def examples_publish():
    spec = importlib.util.spec_from_file_location(
        "publish_example", ROOT / "examples" / "publish.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- what goes up


def test_exactly_the_model_its_code_and_a_card(finished, hub, api):
    url = publish(finished, REPO, license="mit", api=api)
    repo = hub.model(REPO)
    code = {file.name for file in finished.glob("*_dataseg.py")}
    assert len(code) > 5
    expected = {
        ".gitattributes",
        "README.md",
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        *code,
    }
    assert set(repo.files) == expected
    for name in expected - {".gitattributes", "README.md"}:
        assert repo.files[name] == (finished / name).read_bytes()
    assert len(repo.commits) == 2  # the one that makes a repository, and ours
    assert url.endswith(repo.commits[-1][0])
    assert not repo.private


def test_private(finished, hub, api):
    publish(finished, REPO, private=True, license="mit", api=api)
    assert hub.model(REPO).private


def test_publishing_again_without_a_change_makes_no_commit(finished, hub, api):
    first = publish(finished, REPO, license="mit", api=api)
    assert publish(finished, REPO, license="mit", api=api) == first
    assert len(hub.model(REPO).commits) == 2


def test_what_an_earlier_version_left_is_replaced(finished, hub, api):
    publish(finished, REPO, license="mit", api=api)
    repo = hub.model(REPO)
    theirs = {"my_notes.md": b"keep", "sub/old_dataseg.py": b"keep", "pictures/a.png": b"keep"}
    old = {
        "gone_dataseg.py": b"old",
        "model-00001-of-00002.safetensors": b"old",
        "model.safetensors.index.json": b"{}",
    }
    repo.commit({**repo.files, **theirs, **old, "config.json": b"{}"})
    publish(finished, REPO, license="mit", api=api)
    assert not set(repo.files) & set(old)
    assert set(theirs) < set(repo.files)
    assert repo.files["config.json"] == (finished / "config.json").read_bytes()
    assert len(repo.commits) == 4


def test_sharded_weights(tmp_path, hub, api):
    model = checkpoint_model()
    save_checkpoint(model, checkpoint_processor(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    shards = {file.name for file in tmp_path.glob("model-*.safetensors")}
    assert len(shards) > 1
    files = set(checkpoint_files(tmp_path))
    assert shards | {"model.safetensors.index.json"} <= files
    publish(tmp_path, REPO, license="mit", api=api)
    assert shards < set(hub.model(REPO).files)
    next(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(ValueError, match=r"there is no model-0000"):
        checkpoint_files(tmp_path)


def without(name):
    return lambda folder: (folder / name).unlink()


def edited(name, **changes):
    def change(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("config.json"), "holds no model: there is no config.json"),
        (without("preprocessor_config.json"), "there is no preprocessor_config.json"),
        (without("model.safetensors"), "holds no weights: there is no model.safetensors"),
        (
            without("modeling_dataseg.py"),
            "without its code, which would load nowhere: there is no modeling_dataseg.py",
        ),
        (without("losses_dataseg.py"), "there is no losses_dataseg.py; save it with"),
        (without("pipeline_dataseg.py"), "there is no pipeline_dataseg.py"),
        (edited("config.json", auto_map=None), "config.json has no auto_map"),
        (
            edited("preprocessor_config.json", auto_map=None),
            "preprocessor_config.json has no auto_map",
        ),
        (
            edited("config.json", auto_map={"AutoModel": "a/b--modeling_dataseg.X"}),
            "from another repository",
        ),
        (edited("config.json", model_type="convnext"), "is a 'convnext' model"),
        (edited("config.json", vocabularies={}), "stores no vocabulary"),
        (
            edited("config.json", vocabularies={"birds": {"labels": ["owl"], "is_thing": [True]}}),
            "'birds' of 1 labels, whose text embeddings the weights do not hold",
        ),
        (
            edited("config.json", text_encoder={"kind": "hub", "name_or_path": "/tower"}),
            "the local folder '/tower'",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: is not valid JSON"),
        (lambda folder: (folder / "mix.json").write_text("["), "mix.json: cannot be read"),
        (
            lambda folder: (folder / "mix.json").write_text('[{"name": "x"}]'),
            r"do not fit this version \(KeyError",
        ),
        (
            lambda folder: (folder / "run_config.yaml").write_text("a: ["),
            "run_config.yaml: cannot be read",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-9]
            ),
            "is not a whole safetensors file",
        ),
    ],
)
def test_what_is_no_whole_model_is_refused_before_anything_is_sent(
    run_folder, hub, api, change, message
):
    change(run_folder)
    with pytest.raises(ValueError, match=message):
        publish(run_folder, REPO, license="mit", api=api)
    assert hub.requests == []


def test_a_file_is_no_model(run_folder):
    with pytest.raises(ValueError, match=r"config\.json is a file; name the folder of the model$"):
        model_publication(run_folder / "config.json", REPO)


@pytest.mark.parametrize("repo", ["tiny", "some one/tiny", "a/b/c", ""])
def test_impossible_ids(finished, hub, api, repo):
    with pytest.raises(ValueError, match="repo: "):
        publish(finished, repo, license="mit", api=api)
    assert hub.requests == []


# --- failures on the way up


CALLS = [
    ("POST", "/api/repos/create"),
    ("POST", "/api/validate-yaml"),
    ("POST", "/preupload/main"),
    ("POST", "/info/lfs/objects/batch"),
    ("PUT", "/lfs/"),
    ("POST", "/verify"),
    ("POST", "/commit/main"),
]


@pytest.mark.parametrize(("method", "path"), CALLS, ids=[path for _, path in CALLS])
def test_a_server_that_answers_500(finished, hub, api, no_waits, method, path):
    hub.fail(method, path)
    with pytest.raises(PublishError, match=r"someone/tiny was not published: .*500.* Try again"):
        publish(finished, REPO, license="mit", api=api)
    assert [name for repo in hub.repos.values() for name in repo.files] in ([], [".gitattributes"])
    hub.faults.clear()
    publish(finished, REPO, license="mit", api=api)
    assert (
        hub.model(REPO).files["model.safetensors"] == (finished / "model.safetensors").read_bytes()
    )
    assert len(hub.model(REPO).commits) == 2


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/lfs/"), ("POST", "/commit/main")], ids=["weights", "commit"]
)
def test_a_connection_that_drops_in_the_middle(finished, hub, api, no_waits, method, path):
    hub.drop(method, path, after=20000)
    with pytest.raises(PublishError, match=r"someone/tiny was not published: .*Try again"):
        publish(finished, REPO, license="mit", api=api)
    assert list(hub.model(REPO).files) == [".gitattributes"]
    assert len(hub.objects) == (0 if path == "/lfs/" else 1)
    hub.faults.clear()
    before = hub.count("PUT", "/lfs/")
    publish(finished, REPO, license="mit", api=api)
    assert (
        hub.model(REPO).files["model.safetensors"] == (finished / "model.safetensors").read_bytes()
    )
    # what has arrived is not sent again
    assert hub.count("PUT", "/lfs/") - before == (1 if path == "/lfs/" else 0)


@pytest.mark.parametrize(
    "path", ["/preupload/main", "/info/lfs/objects/batch", "/api/validate-yaml"]
)
def test_an_answer_that_is_garbage(finished, hub, api, path):
    hub.corrupt(path, lambda body: b"<" * len(body), method="POST")
    with pytest.raises(PublishError, match=r"someone/tiny was not published: .*Try again"):
        publish(finished, REPO, license="mit", api=api)
    assert list(hub.model(REPO).files) == [".gitattributes"]
    hub.faults.clear()
    publish(finished, REPO, license="mit", api=api)
    assert "model.safetensors" in hub.model(REPO).files


def test_a_failure_that_passes_is_not_even_seen(finished, hub, api, no_waits):
    hub.drop("PUT", "/lfs/", after=20000, times=1)
    hub.fail("PUT", "/lfs/", times=2)
    publish(finished, REPO, license="mit", api=api)
    assert (
        hub.model(REPO).files["model.safetensors"] == (finished / "model.safetensors").read_bytes()
    )


def test_a_failed_update_leaves_the_earlier_model(run_folder, hub, api):
    publish(run_folder, REPO, license="mit", api=api)
    before = dict(hub.model(REPO).files)
    edited("all_results.json", **{"held_out/pq": 0.9})(run_folder)
    hub.fail("POST", "/commit/main", times=1)
    with pytest.raises(PublishError):
        publish(run_folder, REPO, license="mit", api=api)
    assert hub.model(REPO).files == before
    publish(run_folder, REPO, license="mit", api=api)
    assert hub.model(REPO).files != before


def test_a_lost_answer_to_the_commit_does_not_commit_twice(finished, hub, api):
    """The commit is there, only its sender does not know."""
    hub.lose_answer("POST", "/commit/main", times=1)
    with pytest.raises(PublishError, match="or all of this, never a part"):
        publish(finished, REPO, license="mit", api=api)
    assert len(hub.model(REPO).commits) == 2
    publish(finished, REPO, license="mit", api=api)
    assert len(hub.model(REPO).commits) == 2


def test_a_commit_in_between_is_not_mixed_with_ours(finished, hub, api):
    publish(finished, REPO, license="mit", api=api)
    repo = hub.model(REPO)
    original = repo.at

    def someone_else_commits(revision):
        found = original(revision)
        repo.commit({**repo.files, "config.json": b"{}"})
        return found

    repo.at = someone_else_commits
    with pytest.raises(PublishError, match=r"A commit has happened since|412"):
        publish(finished, REPO, license="mit", api=api)


def test_files_that_the_repository_ignores_are_reported(finished, hub, api):
    api.create_repo(REPO)
    repo = hub.model(REPO)
    repo.commit({**repo.files, ".gitignore": b"model.safetensors\n"})
    with pytest.raises(
        PublishError, match=r"\['model.safetensors'\] did not arrive .* \.gitignore"
    ):
        publish(finished, REPO, license="mit", api=api)


def test_a_wrong_token_says_so(finished, hub):
    with pytest.raises(PublishError, match=r"someone/tiny was not published: .*401"):
        publish(finished, REPO, license="mit", api=HfApi(endpoint=hub.url, token="hf_wrong"))
    assert hub.repos == {}


# --- the command line


def test_dry_run_shows_everything_and_sends_nothing(finished, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    arguments = ["--model", str(finished), "--repo", REPO, "--space", "--dry_run"]
    assert examples_publish().main(arguments) == 0
    printed = capsys.readouterr().out
    for name, size in model_publication(finished, REPO).sizes().items():
        assert re.search(rf"^ +{size:,}  {re.escape(name)}$", printed, re.MULTILINE)
    assert "model someone/tiny: " in printed
    tracked = [*SPACE.glob("*.*"), *SPACE.glob("examples/*.png")]
    assert f"space someone/tiny: {len(tracked) + len(SPACE_MODULES)} files" in printed
    assert "DATASEG_MODEL=someone/tiny" in printed
    assert card_of(finished) in printed
    assert "license: the weights need one; give it by --license" in printed
    assert "optimizer.bin" not in printed
    assert hub.requests == []


def test_from_the_shell(finished, hub, tmp_path):
    command = [
        sys.executable,
        str(ROOT / "examples" / "publish.py"),
        "--model",
        str(finished),
        "--repo",
        REPO,
        "--license",
        "cc-by-4.0",
    ]
    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    done = subprocess.run(
        [*command, "--private", "--space"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert hub.model(REPO).private
    assert hub.space(REPO).private
    assert f"Published: {hub.url}/{REPO}/commit/{hub.model(REPO).commits[-1][0]}" in done.stdout
    hub.fail("POST", "/commit/", times=1)
    edited_card = [*command, "--license", "mit"]
    done = warm_python.run(edited_card[1:], environment)
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1].startswith("error: someone/tiny was not published: ")
    )


def test_without_a_license_nothing_is_sent(finished, hub, api, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert examples_publish().main(["--model", str(finished), "--repo", REPO]) == 2
    refused = capsys.readouterr().err
    assert refused.startswith("error: license: the weights need one; give it by --license")
    with pytest.raises(ValueError, match="license: the weights need one"):
        publish(finished, REPO, api=api)
    assert hub.requests == []


def test_the_picture_that_is_asked_for_goes_up_and_away_again(run_folder, hub, api):
    picture = run_folder / "pictures/held_out-step000030.png"
    picture.parent.mkdir()
    Image.effect_noise((30, 20), 80).save(picture)
    options = {"license": "mit", "api": api}
    publish(run_folder, REPO, picture="held_out", **options)
    files = hub.model(REPO).files
    assert files["predictions.png"] == picture.read_bytes()
    assert b"](predictions.png)" in files["README.md"]
    publish(run_folder, REPO, **options)
    assert "predictions.png" not in hub.model(REPO).files
    assert b"predictions.png" not in hub.model(REPO).files["README.md"]


def test_a_folder_without_a_model_is_an_error_in_one_line(tmp_path, capsys):
    assert examples_publish().main(["--model", str(tmp_path), "--repo", REPO]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds no model")


# --- the Space

SPACE_FOLDERS = ["", "data/", "pictures/", "prediction/"]
SPACE_MODULES = [
    *(f"{folder}__init__" for folder in SPACE_FOLDERS),
    "data/coco_format",
    "data/masks",
    "data/rle",
    "pictures/lettering",
    "pictures/overlay",
    "prediction/segments",
]


def test_the_space_is_one_commit_of_the_demo(hub, api):
    publish_space(SPACE, REPO, "someone/tiny", api=api)
    space = hub.space(REPO)
    tracked = {
        str(file.relative_to(SPACE)) for file in [*SPACE.glob("*.*"), *SPACE.glob("examples/*.png")]
    }
    assert {"README.md", "app.py", "requirements.txt"} < tracked
    modules = {f"dataseg_hf/{name}.py" for name in SPACE_MODULES}
    assert set(space.files) == {".gitattributes", *tracked, *modules}
    for name in tracked - {"README.md"}:
        assert space.files[name] == (SPACE / name).read_bytes()
    ours, published = (
        SpaceCard.load(SPACE / "README.md"),
        SpaceCard(space.files["README.md"].decode()),
    )
    assert published.data.to_dict() == {**ours.data.to_dict(), "models": ["someone/tiny"]}
    shown = "This Space shows the model [someone/tiny](https://huggingface.co/someone/tiny)."
    assert published.text.replace(f"{shown}\n\n", "", 1) == ours.text
    assert published.text.count(shown) == 1
    assert space.variables == {"DATASEG_MODEL": "someone/tiny"}
    assert len(space.commits) == 2


def test_a_space_that_fails_and_succeeds(hub, api):
    hub.fail("POST", "/commit/main", times=1)
    with pytest.raises(PublishError, match="was not published"):
        publish_space(SPACE, REPO, "someone/tiny", api=api)
    assert list(hub.space(REPO).files) == [".gitattributes"]
    publish_space(SPACE, REPO, "someone/tiny", api=api)
    assert "app.py" in hub.space(REPO).files


RUNNING_SPACE = """
import json, sys
from pathlib import Path
import dataseg_hf, app
from gradio_client import Client, handle_file

assert Path(dataseg_hf.__file__).is_relative_to(Path.cwd()), dataseg_hf.__file__
page = app.build_demo(app.chosen_model())
_, url, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
arguments = handle_file(sys.argv[1]), "semantic", "pets", "", 0.5
_, table, _, _ = Client(url, verbose=False).predict(*arguments, api_name="/segment")
print("TABLE", json.dumps(table["data"]))
"""


def test_a_published_space_shows_the_published_model(finished, hub, api, photo, tmp_path):
    """In a process that has neither this package nor the checkpoint, but what it fetches."""
    pytest.importorskip("gradio")
    publish(finished, REPO, license="mit", api=api)
    publish_space(SPACE, REPO, REPO, api=api)
    fetched = snapshot_download(
        REPO, repo_type="space", endpoint=hub.url, local_dir=tmp_path / "space"
    )
    environment = {**os.environ, **hub.environment(tmp_path / "home"), **hub.space(REPO).variables}
    done = subprocess.run(
        [sys.executable, "-c", RUNNING_SPACE, str(photo)],
        cwd=fetched,
        env={
            **environment,
            "PYTHONPATH": fetched,
            "OMP_NUM_THREADS": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("TABLE "))
    segmenter = DaTaSegPipeline(
        model=checkpoint_model(), image_processor=checkpoint_processor(), device="cpu"
    )
    expected = [
        [found["label"], sum(found["mask"].histogram()[1:])]
        for found in segmenter(str(photo), vocabulary="pets", subtask="semantic")
    ]
    assert [[row[0], int(row[2])] for row in json.loads(line.removeprefix("TABLE "))] == expected


def test_a_folder_without_the_demo_is_refused(tmp_path, hub, api):
    with pytest.raises(
        ValueError, match=r"it has no README.md, app.py, .*style.css, requirements.txt"
    ):
        publish_space(tmp_path, REPO, "someone/tiny", api=api)
    assert hub.requests == []


# --- and back, in processes that know neither this package nor this test

LOADING = """
import json, sys
sys.modules["dataseg_hf"] = None  # importing it fails
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModel

repo, image, out, options = json.loads(sys.argv[1])
options["trust_remote_code"] = True
model = AutoModel.from_pretrained(repo, **options)
processor = AutoImageProcessor.from_pretrained(repo, **options)
with torch.no_grad():
    output = model(**processor(Image.open(image), return_tensors="pt"))
save_file({"class": output.class_queries_logits, "mask": output.masks_queries_logits.contiguous()}, out)
"""


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.effect_noise((90, 50), 80).convert("RGB").save(path)
    return path


def load_elsewhere(hub, home, photo, out, environment=None, **options):
    """Load the published model in a process of its own; its logits, or the message of its
    failure.
    """
    variables = {**os.environ, **hub.environment(home), **(environment or {})}
    arguments = json.dumps([REPO, str(photo), str(out), options])
    done = warm_python.run_code_cold(LOADING, variables, arguments)
    return load_file(out) if done.returncode == 0 else done.stderr


def logits(model, photo):
    with torch.no_grad():
        output = model(**checkpoint_processor()(Image.open(photo), return_tensors="pt"))
    return {"class": output.class_queries_logits, "mask": output.masks_queries_logits}


def same(found, expected):
    assert not isinstance(found, str), found
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_back_bit_for_bit_then_an_older_commit_then_offline(finished, hub, api, photo, tmp_path):
    publish(finished, REPO, license="mit", api=api)
    first = hub.model(REPO).commits[-1][0]
    other = checkpoint_model()
    with torch.no_grad():
        other.query_decoder.mask_head[-1].weight.mul_(1.5)
    save_checkpoint(other, checkpoint_processor(), tmp_path / "other")
    publish(tmp_path / "other", REPO, license="mit", api=api)

    home, out = tmp_path / "home", tmp_path / "out.safetensors"
    same(load_elsewhere(hub, home, photo, out), logits(other, photo))
    same(load_elsewhere(hub, home, photo, out, revision=first), logits(checkpoint_model(), photo))
    asked = len(hub.requests)
    same(load_elsewhere(hub, home, photo, out, {"HF_HUB_OFFLINE": "1"}), logits(other, photo))
    assert len(hub.requests) == asked
    missing = load_elsewhere(hub, tmp_path / "empty", photo, out, {"HF_HUB_OFFLINE": "1"})
    assert "offline" in missing.lower()


def test_the_snippets_of_the_published_card_run_as_they_stand(finished, hub, api, photo, tmp_path):
    publish(finished, REPO, license="mit", api=api)
    code = blocks(hub.model(REPO).files["README.md"].decode())
    assert len(code) == 3
    script = "import sys\nsys.modules['dataseg_hf'] = None\n" + "\n".join(code)
    environment = {
        **os.environ,
        **hub.environment(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=photo.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "torch.Size([50, 90])" in done.stdout


def flipped(content):
    """The same size, one bit changed in the middle of each kilobyte."""
    changed = bytearray(content)
    for place in range(0, len(changed), 1024):
        changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("short weights", r"received 30000 bytes, expected \d+"),
        ("changed config", "config.json' is not a valid JSON file"),
        ("500", "Server error '500 Internal Server Error' for url .*model.safetensors"),
    ],
)
def test_a_bad_download_is_an_error_and_the_next_one_succeeds(
    finished, hub, api, photo, tmp_path, fault, reason
):
    publish(finished, REPO, license="mit", api=api)
    if fault == "short weights":
        hub.drop("GET", "model.safetensors", after=30000)
    elif fault == "changed config":
        hub.corrupt("config.json", flipped)
    else:
        hub.fail("GET", "model.safetensors")
    home, out = tmp_path / "home", tmp_path / "out.safetensors"
    message = load_elsewhere(hub, home, photo, out)
    assert isinstance(message, str)
    assert re.search(reason, message)
    hub.faults.clear()
    again = {"force_download": True} if fault == "changed config" else {}
    same(load_elsewhere(hub, home, photo, out, **again), logits(checkpoint_model(), photo))


def test_a_changed_download_is_found_by_its_checksum(finished, hub, api, tmp_path, monkeypatch):
    """The client compares sizes only; the Hub's checksums tell, and a forced download repairs."""
    publish(finished, REPO, license="mit", api=api)
    hub.corrupt("model.safetensors", flipped, times=1)
    options = {
        "repo_id": REPO,
        "filename": "model.safetensors",
        "endpoint": hub.url,
        "cache_dir": tmp_path,
    }
    sha256 = hashlib.sha256((finished / "model.safetensors").read_bytes()).hexdigest()

    def arrived():
        return hashlib.sha256(Path(hf_hub_download(**options)).read_bytes()).hexdigest()

    assert arrived() != sha256
    check = {"repo_id": REPO, "cache_dir": tmp_path}
    assert [bad["path"] for bad in api.verify_repo_checksums(**check).mismatches] == [
        "model.safetensors"
    ]
    hf_hub_download(**options, force_download=True)
    assert arrived() == sha256
    assert not api.verify_repo_checksums(**check).mismatches
