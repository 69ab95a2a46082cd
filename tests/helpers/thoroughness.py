"""How much the tests of faults try: a sample in every run of the tests, all of it by `make hostile`."""

import os

from hypothesis import HealthCheck, settings

HOSTILE = "DATASEG_HOSTILE" in os.environ
"""Whether `make hostile` runs them."""


def examples(sample: int, all_of_it: int) -> int:
    """How many of something to try."""
    return all_of_it if HOSTILE else sample


def fuzzed(sample: int, all_of_it: int) -> settings:
    """The settings of a test that Hypothesis repeats, the same inputs in every run."""
    return settings(
        max_examples=examples(sample, all_of_it),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
