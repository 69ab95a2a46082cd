"""A co-training run from settings to results: builds the parts, trains, scores, draws, saves."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import accelerate
import numpy as np
import torch
import transformers
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object, set_seed
from huggingface_hub.errors import StrictDataclassError
from tqdm.auto import tqdm

from .checkpoint import save_checkpoint
from .configuration_dataseg import DaTaSegConfig
from .curves import draw_curves
from .data.mixing import TrainingSet
from .data.sample import BadSampleError, SampleStream
from .evaluation import EvaluationSet, evaluate, pictures
from .image_processing_dataseg import DaTaSegImageProcessor
from .modeling_dataseg import DaTaSegModel
from .pretrained_backbone import load_pretrained_backbone
from .run_config import ConfigError, EvalEntry, RunConfig, expand
from .run_folder import RunFolder
from .sources import load_source, mix_table, resolve_mix, source_spec, training_mix
from .text_embeddings_dataseg import TextEncoder
from .text_encoder_settings import configured_text_encoder
from .training import train
from .version import __version__
from .visualization import prediction_grid
from .warm_start_dataseg import mask2former_labels


def run(config: RunConfig) -> dict[str, Any]:
    """Train, evaluate and save as the settings say; returns what `all_results.json` holds.

    Raises:
        ConfigError: for settings that cannot work, before any training.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
    )
    folder = RunFolder(expand(config.output_dir, "output_dir"))
    if config.resume is not None:
        folder.check_same_run(config)
        if folder.finished_steps() is not None:
            accelerator.print(f"{folder.path} holds a finished run of {folder.finished_steps()} steps: nothing to do.")
            return {}
    set_seed(config.seed)
    encoder = run_text_encoder(config)
    members = training_mix(config)
    held_out = [evaluation_set(name, entry, config, encoder) for name, entry in config.evaluation.items()]
    check_first_samples(members, held_out, config)
    model = build_model(config, members, encoder)
    checkpoint = prepare_folder(folder, config, members, accelerator)
    if accelerator.is_main_process:
        describe(config, model, members, held_out, accelerator)

    def score(current: DaTaSegModel, step: int) -> dict[str, float]:
        return score_and_draw(current, held_out, config, folder, accelerator, step)

    outcome = train(config, model, members, folder, accelerator, score, checkpoint)
    results: dict[str, Any] = {
        "steps": outcome.steps,
        "train_seconds": round(outcome.seconds, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
        **score(outcome.model, outcome.steps),
    }
    if accelerator.is_main_process:
        save_checkpoint(outcome.model, build_processor(config), folder.path)
        draw_curves(folder.read_history(), folder.path / "curves.png")
        folder.write_results(results)
        report(results, folder)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return results


def prepare_folder(
    folder: RunFolder, config: RunConfig, members: Sequence[TrainingSet], accelerator: Accelerator
) -> Path | None:
    """The checkpoint to continue from, or None after making room for a fresh start."""
    checkpoint = folder.find_checkpoint(config.resume) if config.resume is not None else None
    if checkpoint is not None:
        accelerator.print(f"Resuming from {checkpoint}.")
    elif accelerator.is_main_process:
        if config.resume is not None:
            print(f"No complete checkpoint in {folder.checkpoints}: starting afresh.")
        earlier = folder.set_aside()
        if earlier is not None:
            print(f"{folder.path} held an earlier run, now in {earlier}.")
        folder.write_config(config)
        folder.write_mix(resolve_mix(members))
    accelerator.wait_for_everyone()
    return checkpoint


# --- parts -----------------------------------------------------------------------------------------------------------


def run_text_encoder(config: RunConfig) -> TextEncoder:
    """The text encoder of a run. Files may name their rows by a catalogued dataset (`names_of`)."""
    return configured_text_encoder(config.text_encoder)


def embed(encoder: TextEncoder, labels: Sequence[str], key: str) -> torch.Tensor:
    """Embeddings [C, D] of the names; ConfigError says for which entry they failed."""
    try:
        return encoder(labels)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{key}: {error}") from error


def build_model(config: RunConfig, members: Sequence[TrainingSet], encoder: TextEncoder) -> DaTaSegModel:
    """A new model with the vocabularies of the mix, its backbone pretrained where the settings say so."""
    remembered = dict(config.text_encoder)
    if remembered["kind"] in ("file", "files"):
        # a path of this machine is of no use in a checkpoint
        files = [remembered] if remembered["kind"] == "file" else remembered["files"]
        remembered = {"kind": "precomputed", "source": ", ".join(Path(file["path"]).name for file in files)}
    try:
        model = first_model(config, encoder, remembered)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise ConfigError(f"model: {' '.join(str(error).split())}") from error
    for member in members:
        spec = member.data.spec
        embeddings = embed(encoder, spec.labels, f"datasets.{member.name}")
        model.add_vocabulary(member.name, spec.labels, spec.is_thing, embeddings)
    model.set_vocabulary(config.default_vocabulary or members[0].name)
    if config.backbone_weights is not None:
        load_pretrained_backbone(model, expand(config.backbone_weights, "backbone_weights"))
    return model


def check_first_samples(members: Sequence[TrainingSet], held_out: Sequence[EvaluationSet], config: RunConfig) -> None:
    """Read some images of each dataset, evenly spaced, so that a fault in them is found before training.

    Raises:
        ConfigError: for an image that cannot be used, unless `on_bad_sample` is `skip`.
    """
    named = [(f"datasets.{member.name}", member.data) for member in members]
    for key, data in [*named, *((f"evaluation.{chosen.name}", chosen.data) for chosen in held_out)]:
        if isinstance(data, SampleStream):
            rows: Iterator[Any] = islice(data.epoch(config.seed), config.check_samples)
        else:
            places = np.unique(np.linspace(0, len(data) - 1, config.check_samples).round().astype(int))
            rows = (data.rows[place] for place in places.tolist())
        for row in rows:
            try:
                data.load(row)
            except BadSampleError as error:
                if config.on_bad_sample == "raise":
                    raise ConfigError(
                        f"{key}: {error} (examples/inspect_data.py finds all; on_bad_sample 'skip' goes on without)"
                    ) from error


def first_model(config: RunConfig, encoder: TextEncoder, remembered: Mapping[str, Any]) -> DaTaSegModel:
    """The model before it knows the mix: new, or started from a Mask2Former."""
    if config.mask2former_weights is None:
        settings = {**config.model, "text_embedding_dim": encoder.dim, "text_encoder": remembered}
        return DaTaSegModel(DaTaSegConfig(**settings))
    if config.backbone_weights is not None:
        raise ConfigError("give either `backbone_weights` or `mask2former_weights`: the latter hold a backbone")
    path = expand(config.mask2former_weights, "mask2former_weights")
    try:
        embeddings = encoder(mask2former_labels(path)) if config.mask2former_classifier else None
        model = DaTaSegModel.from_mask2former(
            path,
            text_embeddings=embeddings,
            take_classifier=config.mask2former_classifier,
            **{"text_embedding_dim": encoder.dim, "text_encoder": remembered, **config.model},
        )
        return cast(DaTaSegModel, model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"mask2former_weights: cannot start from '{path}': {' '.join(str(error).split())}") from error


def build_processor(config: RunConfig) -> DaTaSegImageProcessor:
    """The processor saved with the model: the evaluation size of the default vocabulary."""
    default = config.default_vocabulary or next(iter(config.datasets))
    sizes = [entry.image_size for entry in config.evaluation.values() if entry.vocabulary == default]
    size = sizes[0] if sizes else config.datasets[default].image_size
    return DaTaSegImageProcessor(
        size={"longest_edge": size}, image_mean=list(config.image_mean), image_std=list(config.image_std)
    )


def evaluation_set(name: str, entry: EvalEntry, config: RunConfig, encoder: TextEncoder) -> EvaluationSet:
    """A held-out set with the embeddings of its names."""
    key = f"evaluation.{name}"
    data = load_source(entry, key, config.on_bad_sample)
    if isinstance(data, SampleStream):
        raise ConfigError(f"{key}.options.streaming: held-out sets are shared out by index; set it to false")
    if entry.vocabulary is not None:
        trained = source_spec(config.datasets[entry.vocabulary], f"datasets.{entry.vocabulary}")
        if trained.labels != data.spec.labels:
            raise ConfigError(
                f"{key}.vocabulary: '{entry.vocabulary}' has other names than '{data.spec.name}'; "
                "leave it out to score in the set's own names"
            )
    return EvaluationSet(
        name=name,
        data=data,
        text_embeddings=embed(encoder, data.spec.labels, key),
        metrics=entry.metrics,
        batch_size=entry.batch_size,
        image_size=entry.image_size,
        shortest_edge=entry.shortest_edge,
        threshold=entry.threshold,
        overlap_threshold=entry.overlap_threshold,
    )


# --- scoring and showing ---------------------------------------------------------------------------------------------


def score_and_draw(
    model: DaTaSegModel,
    held_out: Sequence[EvaluationSet],
    config: RunConfig,
    folder: RunFolder,
    accelerator: Accelerator,
    step: int,
) -> dict[str, float]:
    """Metrics of every held-out set, and a grid of predictions of each as PNG."""
    images = sum(len(chosen.data) for chosen in held_out)
    with tqdm(total=images, desc="evaluate", disable=not accelerator.is_main_process, leave=False) as bar:
        results = evaluate(
            model,
            held_out,
            config.image_mean,
            config.image_std,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            gather=lambda state: gather_object([state]),
            progress=lambda count: bar.update(count * accelerator.num_processes),
        )
    if accelerator.is_main_process:
        folder.append_evaluation(step, results)
        folder.pictures.mkdir(parents=True, exist_ok=True)
        for chosen in held_out:
            rows = pictures(model, chosen, config.num_pictures, config.image_mean, config.image_std)
            grid = prediction_grid(rows, ["image", "truth", "prediction"])
            grid.save(folder.pictures / f"{chosen.name}-step{step:06d}.png")
        print(f"step {step}: " + ", ".join(f"{key} {value:.3f}" for key, value in headline(results).items()))
    model.train()
    return results


def headline(results: dict[str, float]) -> dict[str, float]:
    """The main metric of each kind."""
    wanted = ("pq", "pq_things", "pq_stuff", "miou", "mask_ap", "mask_ap50")
    return {key: value for key, value in results.items() if key.rpartition("/")[2] in wanted}


def describe(
    config: RunConfig,
    model: DaTaSegModel,
    members: Sequence[TrainingSet],
    held_out: Sequence[EvaluationSet],
    accelerator: Accelerator,
) -> None:
    """Print what is about to happen: model, mix, machine, versions."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(
        f"dataseg_hf {__version__}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"accelerate {accelerate.__version__}, Python {sys.version.split()[0]}"
    )
    print(
        f"{trainable / 1e6:.2f} M trainable parameters; {accelerator.num_processes} process(es) on "
        f"{accelerator.device.type}, precision {accelerator.mixed_precision}, {torch.get_num_threads()} threads"
    )
    print(mix_table(resolve_mix(members)))
    for member in members:
        if isinstance(member.data, SampleStream):
            print(
                f"{member.name} is streamed: every process reads the whole stream, and a resumed run reads the started "
                "epoch again up to its place"
            )
        else:
            for note in member.data.notes:
                print(f"{member.name}: {note}")
    scored = "; ".join(f"{chosen.name} ({len(chosen.data)} images: {', '.join(chosen.metrics)})" for chosen in held_out)
    print(f"held out: {scored or 'nothing'}")


def report(results: dict[str, Any], folder: RunFolder) -> None:
    """Print the results and where everything is."""
    print(f"Trained {results['steps']} steps in {results['train_seconds']:.0f} s.")
    for key, value in headline({k: v for k, v in results.items() if "/" in k}).items():
        print(f"  {key:<32} {value:.3f}")
    print(f"Model, results, curves and pictures are in {folder.path}.")
