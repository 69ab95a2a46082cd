"""The learning rate over a run: by steps, by the clock if these will not be done in time, again if
it is longer.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest

from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training.optimization import learning_rate
from dataseg_hf.training.schedule import Schedule, continued, resolve_schedule

CONFIG = RunConfig(
    output_dir="unused",
    datasets={"a": TrainEntry(spec="shapes_panoptic", reader="shapes")},
    text_encoder={"kind": "hashed_ngrams"},
    learning_rate=1.0,
    max_steps=1000,
    warmup_steps=50,
)


def planned(max_steps: int = 1000, limit: float | None = None, warmup_steps: int = 50) -> Schedule:
    return Schedule(
        max_steps, warmup_steps, checkpoint_every=0, evaluate_every={}, max_seconds=limit
    )


def rates(schedule: Schedule, seconds_of: Callable[[int], float]) -> list[float]:
    """Of a run whose machine takes so many seconds for each step, until its steps or its time are
    over.
    """
    found: list[float] = []
    seconds = 0.0
    while len(found) < schedule.max_steps and (
        schedule.max_seconds is None or seconds < schedule.max_seconds
    ):
        found.append(learning_rate(CONFIG, schedule, len(found), seconds))
        seconds += seconds_of(len(found))
    return found


@pytest.mark.parametrize(
    "seconds_of",
    [
        lambda step: 0.99,  # just in time
        lambda step: 0.1,
        # a slow first pass over the data: a third of the time for 4 %
        lambda step: 8.0 if step <= 40 else 0.7,
        lambda step: 150.0 if step == 600 else 0.8,  # the machine is busy for a while
    ],
)
def test_a_run_that_is_done_in_time_does_not_see_the_clock(
    seconds_of: Callable[[int], float],
) -> None:
    assert rates(planned(limit=1000.0), seconds_of) == rates(planned(), seconds_of)


@pytest.mark.parametrize("pace", [1.05, 1.7, 5.0, 40.0])
def test_a_run_that_its_time_limit_ends_has_come_down(pace: float) -> None:
    found = rates(planned(limit=1000.0, warmup_steps=5), lambda step: pace)
    assert len(found) == -(-1000 // pace)
    assert found[-1] < 0.02
    down = found[5:]
    assert all(later <= earlier for earlier, later in pairwise(down))
    # without a jump
    assert max(earlier - later for earlier, later in pairwise(down)) < 4 * pace / 1000


def test_the_clock_by_hand() -> None:
    schedule = planned(max_steps=100, limit=60.0)
    assert [schedule.progress(10, seconds) for seconds in (0, 30, 45, 60, 70)] == [
        0.1,
        0.1,
        0.5,
        1.0,
        1.0,
    ]
    assert schedule.progress(80, 45.0) == 0.8


def test_the_time_limit_is_that_of_the_settings() -> None:
    assert resolve_schedule(CONFIG.model_copy(update={"max_minutes": 1.5}), []).max_seconds == 90.0
    assert resolve_schedule(CONFIG, []).max_seconds is None


# --- a run that is made longer


def after(step: int, seconds: float = 100.0, schedule: Schedule | None = None) -> dict[str, float]:
    """What a checkpoint holds."""
    return {"step": step, "train_seconds": seconds, **(schedule or planned()).as_progress()}


def test_an_unchanged_length_goes_on_as_planned() -> None:
    assert continued(planned(), CONFIG, after(600)) == planned()
    longer = continued(planned(2000), CONFIG, after(1000))
    assert continued(planned(2000), CONFIG, after(1300, schedule=longer)) == longer


@pytest.mark.parametrize("step", [1000, 600])
def test_another_length_starts_the_rate_again(step: int) -> None:
    longer = continued(planned(2000), CONFIG, after(step))
    found = [learning_rate(CONFIG, longer, place) for place in range(step, 2000)]
    assert found == [
        learning_rate(CONFIG, planned(2000 - step), place) for place in range(2000 - step)
    ]
    assert found[0] == pytest.approx(1 / 50)
    assert found[-1] < 1e-4


def test_a_constant_rate_stays() -> None:
    constant = CONFIG.model_copy(update={"schedule": "constant"})
    longer = continued(planned(2000), constant, after(1000))
    assert {learning_rate(constant, longer, place) for place in range(1000, 2000)} == {1.0}


def test_the_clock_of_a_longer_run_starts_again_too() -> None:
    longer = continued(planned(2000, limit=300.0), CONFIG, after(1000, seconds=100.0))
    assert longer.progress(1000, 100.0) == 0.0
    # of the 200 seconds left, half of the second half
    assert longer.progress(1100, 250.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("schedule", "progress", "message"),
    [
        (planned(500), after(600), "max_steps: 500, but the checkpoint has 600 steps; give more"),
        (
            planned(2000, limit=90.0),
            after(1000),
            "has trained for 1.7 minutes and is to go on to 2000 steps",
        ),
    ],
)
def test_a_length_that_cannot_be_is_refused(
    schedule: Schedule, progress: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        continued(schedule, CONFIG.model_copy(update={"max_minutes": 1.5}), progress)
