"""How much the tests of faults try: a sample in every run of the tests, all of it by `make hostile`."""

import os

HOSTILE = "DATASEG_HOSTILE" in os.environ
"""Whether `make hostile` runs them."""


def examples(sample: int, all_of_it: int) -> int:
    """How many of something to try."""
    return all_of_it if HOSTILE else sample
