"""A linear probe: ridge regression from the frozen backbone of a run to the classes of its training
sets, scored on its held-out sets. It says what the backbone allows without any training of it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor
from tqdm.auto import tqdm

from ..data.collate import Normalization
from ..data.sample import BadSampleError, Sample, SampleDataset, SampleStream
from ..data.transforms import resize_only
from ..errors import ConfigError
from ..metrics.semantic import semantic_map
from ..model.postprocessing_dataseg import likeliest_class
from ..output_folder import check_output_folder, claim_output_folder
from ..settings.datasets import OnBadSample
from ..settings.model import first_model, run_text_encoder
from ..settings.paths import expand, run_reads
from ..settings.run import RunConfig
from ..sharing.provenance import START_SETTINGS
from .inference import size_of
from .probe_features import FeatureMaps, cell_counts, enlarged, joined
from .probe_model import model_ious
from .probe_report import ProbeScores, Strides, combination_table, write_probe
from .probe_sets import HeldOut, ProbeSets, probe_sets
from .ridge import LinearMap, NormalEquations, ridge
from .scorers import SCORERS, segments_of

LOG = logging.getLogger(__name__)

STRENGTHS = (1.0, 0.1, 0.01, 0.001, 1e-4)
"""Of the regularization, relative to the variance of a feature."""
VALIDATION_PART = 5
"""Every so many training images, one decides which strength is taken."""


@dataclass(frozen=True)
class ProbeOptions:
    """How a backbone is probed.

    Args:
        strides: Of the maps to probe; all that the backbone has by default.
        model: What to compare with: folder or Hub id of a checkpoint, or the `results.json` of its
            evaluation.
        output_dir: Folder of the report; what an earlier probe left there is moved aside.
    """

    strides: Strides = ()
    model: str | None = None
    output_dir: str = "outputs/probe"


@dataclass
class Probe:
    """A linear map from the features of some strides to classes.

    Args:
        strides: finest first.
        strength: of the regularization.
        maps: by stride the weights float32 [C, D].
        bias: float32 [C].
    """

    strides: Strides
    strength: float
    maps: dict[int, Tensor]
    bias: Tensor

    def scores(self, features: dict[int, Tensor]) -> Tensor:
        """Scores [C, H, W] in the cells of the finest stride, from maps [D, h, w] by stride.

        Scores are enlarged instead of features, which gives the same and is faster.
        """
        finest = features[self.strides[0]]
        parts = (
            enlarged(torch.einsum("cd,dhw->chw", weight, features[stride]), finest)
            for stride, weight in self.maps.items()
        )
        return sum(parts, start=self.bias[:, None, None])


def run_probe(
    options: ProbeOptions, config: RunConfig, config_files: Sequence[str] = ()
) -> list[ProbeScores]:
    """Fit and score, and leave `probe.json` and `report.md` in the output folder.

    Args:
        options: how to probe.
        config: settings of a run; its sets, its backbone and the weights it starts with are read.
        config_files: where they were read from.

    Raises:
        ConfigError: for options and settings that cannot work, before anything is fitted.
        BadSampleError: for an image that cannot be used, unless the run leaves such images out.
    """
    folder = check_output_folder(
        expand(options.output_dir, "--output_dir"),
        "probe",
        "--output_dir",
        run_reads(config, config_files) | ({"--model": options.model} if options.model else {}),
    )
    groups = probe_sets(config)
    maps, weights = feature_maps(config)
    strides = checked_strides(options.strides, maps, groups[0].training[0].augmentation.image_size)
    claim_output_folder(folder, "probe", "--output_dir")
    LOG.info(f"Probing a {weights}, strides {', '.join(map(str, strides))}.")
    results = [
        scores
        for group in groups
        for scores in probe_vocabulary(group, maps, strides, config.on_bad_sample)
    ]
    if options.model is not None:
        found = model_ious(options.model, config, [scores.name for scores in results])
        for scores in results:
            scores.model = found.get(scores.name)
    write_probe(results, {"backbone": weights, "strides": list(strides)}, folder)
    LOG.info("\n".join(combination_table(results)))
    LOG.info(f"The scores of each class are in {folder / 'report.md'}.")
    return results


# --- what is probed -------------------------------------------------------------------------------


def feature_maps(config: RunConfig) -> tuple[FeatureMaps, str]:
    """The backbone with which a run starts, and what to call it."""
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    set_seed(config.seed)
    model = first_model(config, run_text_encoder(config))
    # not MPS, which has no float64
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = [
        f"{name} '{getattr(config, name)}'" for name in START_SETTINGS if getattr(config, name)
    ]
    kind = getattr(model.config.backbone_config, "model_type", "backbone")
    weights = (
        given[0] if given else f"random weights (seed {config.seed}), as the settings name none"
    )
    normalization = Normalization(config.image_mean, config.image_std)
    return FeatureMaps(model.backbone, normalization, device), f"{kind} with {weights}"


def checked_strides(chosen: Strides, maps: FeatureMaps, canvas: int) -> Strides:
    """The strides to probe, finest first.

    Raises:
        ConfigError: for one that the backbone lacks.
    """
    known = sorted(maps.channels(canvas))
    for stride in chosen:
        if stride not in known:
            raise ConfigError(
                f"--strides: the backbone has no map of stride {stride}; choose from {known}"
            )
    return tuple(sorted(set(chosen))) or tuple(known)


def combinations(strides: Strides) -> list[Strides]:
    """Each stride by itself, then from the two coarsest on one more at a time."""
    return [(stride,) for stride in strides] + [
        strides[-count:] for count in range(2, len(strides) + 1)
    ]


# --- fitting --------------------------------------------------------------------------------------


def probe_vocabulary(
    group: ProbeSets, maps: FeatureMaps, strides: Strides, policy: OnBadSample
) -> list[ProbeScores]:
    """The scores of each held-out set of a vocabulary."""
    with tqdm(total=group.images, unit="image", desc="fit") as bar:
        fitted, validation = accumulate(group, maps, strides, policy, bar.update)
        counts = (fitted + validation).class_counts
        if counts.sum() == 0:
            raise ConfigError(f"datasets.{group.training[0].name}: no pixel has a class")
        channels = maps.channels(group.training[0].augmentation.image_size)
        probes = [
            best_probe(chosen, strides, channels, fitted, validation)
            for chosen in combinations(strides)
        ]
        results = []
        for held_out in group.held_out:
            bar.set_description(held_out.name)
            shares = dict(zip(group.labels, (counts / counts.sum()).tolist(), strict=True))
            results.append(score_probes(held_out, probes, shares, maps, policy, bar.update))
    return results


def accumulate(
    group: ProbeSets,
    maps: FeatureMaps,
    strides: Strides,
    policy: OnBadSample,
    progress: Callable[[int], Any],
) -> tuple[NormalEquations, NormalEquations]:
    """The cells of the training images, and of those that decide on the strength."""
    features = sum(
        maps.channels(group.training[0].augmentation.image_size)[stride] for stride in strides
    )
    parts = [
        NormalEquations.empty(features, len(group.labels), maps.device) for _ in ("fit", "validate")
    ]
    number = 0
    for dataset in group.training:
        canvas = dataset.augmentation.image_size
        for sample in usable_samples(dataset.data, policy):
            seen = resize_only(sample, canvas)
            of_image, _ = maps.of(seen.image, sample.image_id, canvas)
            cells = joined([of_image[stride] for stride in strides])
            grid = (cells.shape[1], cells.shape[2])
            classes = semantic_map(segments_of(seen))
            counts = cell_counts(classes, len(group.labels), canvas, grid)
            rows = parts[number % VALIDATION_PART == 1]
            rows.add(cells.flatten(1).T, counts.to(maps.device))
            number += 1
            progress(1)
    return parts[0], parts[1]


def usable_samples(data: SampleDataset | SampleStream, policy: OnBadSample) -> Iterator[Sample]:
    """All samples, once; those that cannot be used are left out where the policy says so.

    Raises:
        BadSampleError: for one that cannot be used, otherwise.
    """
    for row in data.epoch(0) if isinstance(data, SampleStream) else data.rows:
        try:
            sample = data.load(row)
        except BadSampleError:
            if policy != "skip":
                raise
            continue
        yield sample


def best_probe(
    chosen: Strides,
    strides: Strides,
    channels: dict[int, int],
    fitted: NormalEquations,
    validation: NormalEquations,
) -> Probe:
    """The probe of some of the strides, of the strength with the least error in validation, fitted
    to all cells.
    """
    places = torch.arange(sum(channels[stride] for stride in strides), device=fitted.inputs.device)
    by_stride = dict(zip(strides, places.split([channels[s] for s in strides]), strict=True))
    columns = torch.cat([by_stride[stride] for stride in chosen])
    candidates = ridge(fitted.select(columns), STRENGTHS)
    held_back = validation.select(columns)
    errors = [candidate.squared_error(held_back) for candidate in candidates]
    strength = STRENGTHS[errors.index(min(errors))]
    (solution,) = ridge((fitted + validation).select(columns), [strength])
    return as_probe(solution, chosen, channels, strength)


def as_probe(
    solution: LinearMap, chosen: Strides, channels: dict[int, int], strength: float
) -> Probe:
    """The probe that a solution for the joined features of some strides makes."""
    weights = solution.weight.T.float().split([channels[stride] for stride in chosen], dim=1)
    maps = dict(zip(chosen, weights, strict=True))
    return Probe(chosen, strength, maps, solution.bias.float())


# --- scoring --------------------------------------------------------------------------------------


def score_probes(
    held_out: HeldOut,
    probes: Sequence[Probe],
    pixel_shares: dict[str, float],
    maps: FeatureMaps,
    policy: OnBadSample,
    progress: Callable[[int], Any],
) -> ProbeScores:
    """The mean IoU of each probe on a held-out set, as an evaluation of a model measures it."""
    spec, entry, scorer = held_out.data.spec, held_out.entry, SCORERS["miou"]
    metrics = [scorer.new(spec, entry.max_dets) for _ in probes]
    for sample in usable_samples(held_out.data, policy):
        seen = resize_only(sample, entry.image_size, entry.shortest_edge)
        of_image, valid = maps.of(seen.image, sample.image_id, entry.image_size)
        for probe, metric in zip(probes, metrics, strict=True):
            classes = likeliest_class(probe.scores(of_image), valid, size_of(sample))
            scorer.update(metric, classes.cpu().numpy(), sample, spec)
        progress(1)
    return ProbeScores(
        name=held_out.name,
        images=len(held_out.data),
        strengths={probe.strides: probe.strength for probe in probes},
        scores={
            probe.strides: metric.compute() for probe, metric in zip(probes, metrics, strict=True)
        },
        pixel_shares=pixel_shares,
    )
