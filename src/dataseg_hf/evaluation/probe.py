"""A linear probe: ridge regression from the frozen backbone of a run to the classes of its training
sets, scored on its held-out sets. It says what the backbone allows without any training of it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor
from tqdm.auto import tqdm

from ..data.collate import Normalization
from ..data.sample import BadSampleError, Sample, SampleDataset, SampleStream
from ..data.transforms import resize_only
from ..errors import ConfigError
from ..files.output_folder import check_output_folder, claim_output_folder
from ..metrics.semantic import iou_scores, semantic_map
from ..model.postprocessing_dataseg import likeliest_class
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
BALANCES = (0.0, 0.25, 0.5, 0.75)
"""Powers of a class's share of the pixels by which its score is divided. Scores approximate the
probability of a class, and mean IoU counts a rare one as much as a frequent one.
"""
TRIALS = [(strength, balance) for strength in STRENGTHS for balance in BALANCES]
VALIDATION_PART = 5
"""Every so many-th training image is for validation: it decides on strength and balance."""


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
        balance: power of the shares of pixels by which scores are divided.
        maps: by stride the weights float32 [C, D].
        bias: float32 [C].
    """

    strides: Strides
    strength: float
    balance: float
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
    reads = run_reads(config, config_files)
    if options.model is not None:
        reads["--model"] = options.model
    folder = check_output_folder(
        expand(options.output_dir, "--output_dir"), "probe", "--output_dir", reads
    )
    groups = probe_sets(config)
    maps, weights = feature_maps(config)
    strides = checked_strides(options.strides, maps, groups[0].training[0].augmentation.image_size)
    names = [held_out.name for group in groups for held_out in group.held_out]
    of_model = {} if options.model is None else model_ious(options.model, config, names)
    with claim_output_folder(folder, "probe", "--output_dir", reads) as claimed:
        if claimed.earlier is not None:
            LOG.info(f"{folder} held an earlier probe, now in {claimed.earlier}.")
        LOG.info(f"Probing a {weights}, strides {', '.join(map(str, strides))}.")
        results = [
            scores
            for group in groups
            for scores in probe_vocabulary(group, maps, strides, config.on_bad_sample)
        ]
        for scores in results:
            scores.model = of_model.get(scores.name)
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
    channels = maps.channels(group.training[0].augmentation.image_size)
    cells = TrainingCells(group, maps, {stride: channels[stride] for stride in strides}, policy)
    with tqdm(total=group.images, unit="image", desc="fit") as bar:
        probes, counts = fit(cells, bar.update)
        shares = dict(zip(group.labels, (counts / counts.sum()).tolist(), strict=True))
        results = []
        for held_out in group.held_out:
            bar.set_description(held_out.name)
            results.append(score_probes(held_out, probes, shares, maps, policy, bar.update))
    return results


@dataclass(frozen=True)
class TrainingCells:
    """The cells of the training images of a vocabulary, at the finest stride that is probed.

    Args:
        channels: features by stride, finest first.
        policy: on images that cannot be used.
    """

    group: ProbeSets
    maps: FeatureMaps
    channels: dict[int, int]
    policy: OnBadSample

    def of(self, validation: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Features [n, D] and counted classes [n, C] of the cells of each image: of those that
        decide on the strength, or the others.
        """
        labels = self.group.labels
        for dataset in self.group.training:
            canvas = dataset.augmentation.image_size
            for sample in usable_samples(dataset.data, self.policy, validation):
                seen = resize_only(sample, canvas)
                of_image, _ = self.maps.of(seen.image, sample.image_id, canvas)
                cells = joined([of_image[stride] for stride in self.channels])
                grid = (cells.shape[1], cells.shape[2])
                classes = semantic_map(segments_of(seen))
                counts = cell_counts(classes, len(labels), canvas, grid).to(cells.device)
                labeled = counts.sum(1) > 0
                yield cells.flatten(1).T[labeled], counts[labeled]

    def columns(self, chosen: Strides) -> Tensor:
        """Places of the features of some strides, int64 [K]."""
        places = torch.arange(sum(self.channels.values()), device=self.maps.device)
        parts = zip(self.channels, places.split(list(self.channels.values())), strict=True)
        return torch.cat([part for stride, part in parts if stride in chosen])


def usable_samples(
    data: SampleDataset | SampleStream, policy: OnBadSample, validation: bool | None = None
) -> Iterator[Sample]:
    """All samples, once: those of the validation part, the others, or (None) both. Those that
    cannot be used are left out where the policy says so.

    Raises:
        BadSampleError: for one that cannot be used, otherwise.
    """
    rows = data.epoch(0) if isinstance(data, SampleStream) else data.rows
    for number, row in enumerate(rows):
        if validation is not None and (number % VALIDATION_PART == 1) != validation:
            continue
        try:
            sample = data.load(row)
        except BadSampleError:
            if policy != "skip":
                raise
            continue
        yield sample


def fit(cells: TrainingCells, progress: Callable[[int], Any]) -> tuple[list[Probe], Tensor]:
    """A probe for each combination of strides, and the labeled training pixels of each class [C].

    A probe has the strength and balance that, fitted to the other images, do best on the validation
    images, and is fitted to all of them.

    Raises:
        ConfigError: if no pixel has a class.
    """
    strides, labels = tuple(cells.channels), cells.group.labels
    width = sum(cells.channels.values())
    rows = NormalEquations.empty(width, len(labels), cells.maps.device)
    for features, counts in cells.of(validation=False):
        rows.add(features, counts)
        progress(1)
    solutions = {
        chosen: trial_solutions(rows.select(cells.columns(chosen)))
        for chosen in combinations(strides)
    }
    confusions = {
        chosen: rows.targets.new_zeros(len(TRIALS), len(labels), len(labels) + 1)
        for chosen in solutions
    }
    for features, counts in cells.of(validation=True):
        rows.add(features, counts)
        for chosen, found in solutions.items():
            count_predictions(features[:, cells.columns(chosen)], counts, found, confusions[chosen])
        progress(1)
    if rows.class_counts.sum() == 0:
        raise ConfigError(f"datasets.{cells.group.training[0].name}: no pixel has a class")
    probes = []
    for chosen, confusion in confusions.items():
        trial = best_trial(confusion, labels)
        solution = trial_solutions(rows.select(cells.columns(chosen)))[trial]
        probes.append(as_probe(solution, chosen, cells.channels, *TRIALS[trial]))
    return probes, rows.class_counts


def trial_solutions(rows: NormalEquations) -> list[LinearMap]:
    """A solution for each of `TRIALS`. A class that is never seen scores 0, and others more."""
    counts = rows.class_counts
    shares = counts / counts.sum().clamp(min=1)
    factors = [
        torch.where(counts > 0, shares.clamp(min=1e-12) ** -balance, 0.0) for balance in BALANCES
    ]
    return [solution.scaled(factor) for solution in ridge(rows, STRENGTHS) for factor in factors]


def count_predictions(
    features: Tensor, counts: Tensor, solutions: Sequence[LinearMap], confusions: Tensor
) -> None:
    """Add the pixels of cells to a confusion matrix of each solution, [trials, C, C + 1]."""
    for solution, confusion in zip(solutions, confusions, strict=True):
        scores = features @ solution.weight.float() + solution.bias.float()
        confusion.index_add_(1, scores.argmax(1), counts.T)


def best_trial(confusions: Tensor, labels: Sequence[str]) -> int:
    """The trial with the largest mean IoU of confusions [trials, C, C + 1]; the first where there
    is none.
    """
    scores = [iou_scores(confusion.cpu().numpy(), labels)["miou"] for confusion in confusions]
    return int(np.nan_to_num(scores, nan=-1).argmax())


def as_probe(
    solution: LinearMap,
    chosen: Strides,
    channels: dict[int, int],
    strength: float,
    balance: float,
) -> Probe:
    """The probe that a solution for the joined features of some strides makes."""
    weights = solution.weight.T.float().split([channels[stride] for stride in chosen], dim=1)
    maps = dict(zip(chosen, weights, strict=True))
    return Probe(chosen, strength, balance, maps, solution.bias.float())


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
        settings={probe.strides: (probe.strength, probe.balance) for probe in probes},
        scores={
            probe.strides: metric.compute() for probe, metric in zip(probes, metrics, strict=True)
        },
        pixel_shares=pixel_shares,
    )
