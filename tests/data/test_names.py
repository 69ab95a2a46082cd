"""Names in the files against those of the spec, and of training files against held-out ones."""

from dataclasses import replace

import pytest

from dataseg_hf.data.name_checks import (
    contradictions_text,
    held_out_contradictions,
    name_contradictions,
)
from dataseg_hf.data.names import plain_name
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, SampleDataset

SPEC = DatasetSpec(
    "store",
    "boxes",
    (
        ClassInfo("forklift", True),
        ClassInfo("delivery van", True, ("truck",)),
        ClassInfo("pallet", True),
    ),
    {1: 0, 2: 1, 3: 2, 4: 2},
    frozenset({9}),
)


@pytest.mark.parametrize(
    "name", ["Delivery Van", "delivery-van", "DELIVERY_VAN", "deliveryvan", " delivery  van "]
)
def test_case_and_separators_are_no_difference(name):
    assert plain_name(name) == "deliveryvan"
    assert name_contradictions(SPEC, {2: name}) == []


@pytest.mark.parametrize(
    ("stated", "texts"),
    [
        ({1: "forklift", 2: "delivery van", 3: "pallet"}, []),
        ({1: "pallet"}, ["1 is 'forklift' in the spec and 'pallet' in the files"]),
        ({1: "reach truck"}, ["1 is 'forklift' in the spec and 'reach truck' in the files"]),
        ({2: "Truck"}, []),  # an alias
        ({2: "lorry, truck"}, []),  # one of several synonyms
        ({3: "euro pallet", 4: "box"}, []),  # two ids of one class are merged on purpose
        ({4: "forklift"}, ["4 is 'pallet' in the spec and 'forklift' in the files"]),
        ({9: "pallet"}, ["9 is void in the spec and 'pallet' in the files"]),
        ({9: "unlabeled"}, []),
        ({77: "forklift"}, []),  # an id that the spec does not know is the reader's to report
        ({}, []),
    ],
)
def test_contradictions(stated, texts):
    assert name_contradictions(SPEC, stated) == texts


def test_a_catalogd_dataset_is_reworded_but_not_swapped():
    catalogd = replace(SPEC, reader="coco_instances")
    assert name_contradictions(catalogd, {1: "fork-lift-merged"}) == []
    assert name_contradictions(catalogd, {1: "pallet"}) == [
        "1 is 'forklift' in the spec and 'pallet' in the files"
    ]


def test_the_line_counts_all_and_shows_five():
    line = contradictions_text([f"fault {number}" for number in range(7)])
    assert line.startswith("7 category names of the files contradict the spec: fault 0; ")
    assert "fault 4 and 2 more. " in line
    assert "`aliases`" in line


def dataset(stated, spec=SPEC):
    return SampleDataset(spec, [], load=lambda row: row, stated_names=stated)


def test_held_out_files_are_compared_with_those_of_training():
    trained = dataset({3: "euro pallet", 4: "crate", 1: "forklift"})
    assert held_out_contradictions(trained, dataset({3: "Euro-Pallet", 1: "Forklift"})) == []
    (text,) = held_out_contradictions(trained, dataset({3: "crate", 4: "euro pallet"}))
    assert (
        "name 2 categories differently: 3 is 'euro pallet' there and 'crate' here; 4 is 'crate' "
        "there" in text
    )
    assert held_out_contradictions(None, dataset({3: "crate"})) == []


def test_ids_that_mean_other_classes_in_the_two_sets_are_not_compared():
    trained = dataset({1: "forklift"})
    other = replace(SPEC, id_map={1: 2})
    assert held_out_contradictions(trained, dataset({1: "pallet"}, other)) == []
