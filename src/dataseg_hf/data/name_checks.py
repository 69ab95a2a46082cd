"""Category names of the files, compared with those of the spec and of other files."""

from collections.abc import Collection, Mapping, Sequence

from ..messages import first_few
from .names import plain_name
from .sample import DatasetSpec, RawId, SampleDataset, SampleStream

_MAX_EXAMPLES = 5


def name_contradictions(spec: DatasetSpec, stated: Mapping[RawId, str]) -> list[str]:
    """Where the files call a raw id otherwise than the spec does, one text per id.

    A class with several raw ids merges categories on purpose, and the catalog rewords names for the
    text encoder, so there only the name of ANOTHER class contradicts. Of synonyms in a row ("door,
    double door") one must be right.

    Args:
        stated: names by raw id, as the files state them.
    """
    allowed = [{plain_name(name) for name in (c.name, *c.aliases)} for c in spec.classes]
    class_of_name = {name: index for index, names in enumerate(allowed) for name in names}
    reworded = set(range(len(spec.classes))) if spec.reader else _merged_classes(spec)
    found = []
    for raw_id, name in stated.items():
        if raw_id not in spec.id_map and raw_id not in spec.void_ids:
            continue  # the reader says so where such an object occurs
        if isinstance(raw_id, str) and plain_name(raw_id) == plain_name(name) not in class_of_name:
            continue  # a word is its own name, and a class may be called otherwise than its id
        synonyms = {plain_name(name), *map(plain_name, name.split(","))}
        index, others = spec.id_map.get(raw_id), synonyms & class_of_name.keys()
        if index is None:
            if others:
                found.append(f"{raw_id!r} is void in the spec and '{name}' in the files")
        elif not synonyms & allowed[index] and (others or index not in reworded):
            found.append(
                f"{raw_id!r} is '{spec.labels[index]}' in the spec and '{name}' in the files"
            )
    return found


def label_list_notes(spec: DatasetSpec, listed: Collection[str], where: object) -> list[str]:
    """How a file's list of labels and the words that the spec knows differ, for a user to look at.

    Args:
        spec: the dataset, whose raw ids are words.
        listed: the labels of the file; none where it has no list.
        where: the file, with which the notes begin.
    """
    if not listed:
        return []
    listed_plain = {plain_name(label) for label in listed}
    spec_words = [raw_id for raw_id in spec.id_map if isinstance(raw_id, str)]
    absent = [word for word in spec_words if plain_name(word) not in listed_plain]
    unknown = [label for label in listed if not spec.knows(label)]
    notes = []
    if absent:
        notes.append(
            f"{where}: its list of labels lacks {_named(absent)} of the spec; a class without any "
            "label there counts as one that nobody looked for"
        )
    if unknown:
        notes.append(
            f"{where}: its list of labels has {_named(unknown)}, which the spec does not name"
        )
    return notes


def classes_not_listed(spec: DatasetSpec, listed: Collection[str]) -> tuple[int, ...]:
    """Classes that a file's list of labels does not have, so that nobody can have annotated them.

    Args:
        spec: the dataset, whose raw ids are words.
        listed: the labels of the file; none where it has no list.
    """
    if not listed:
        return ()
    known = {spec.class_index(label, "") for label in listed if spec.knows(label)}
    return tuple(index for index in range(len(spec.classes)) if index not in known)


def _named(words: Sequence[str]) -> str:
    named = first_few([repr(word) for word in words], _MAX_EXAMPLES)
    return f"{len(words)} {'label' if len(words) == 1 else 'labels'} ({named})"


def _merged_classes(spec: DatasetSpec) -> set[int]:
    indices = list(spec.id_map.values())
    return {index for index in indices if indices.count(index) > 1}


def contradictions_text(found: Sequence[str]) -> str:
    """One line for what `name_contradictions` found."""
    subject = (
        "1 category name of the files contradicts"
        if len(found) == 1
        else f"{len(found)} category names of the files contradict"
    )
    return (
        f"{subject} the spec: {first_few(found, _MAX_EXAMPLES, '; ')}. Correct the `ids` of the "
        "classes; where both names mean the same, list the files' name under `aliases` of the class"
    )


def held_out_contradictions(
    trained: SampleDataset | SampleStream | None, held_out: SampleDataset | SampleStream
) -> list[str]:
    """Whether the files of a held-out set call an id otherwise than those of the training set that
    it is scored as.

    Args:
        trained: the training set whose vocabulary it is scored in; None where there is none, and
            nothing to compare.
        held_out: the held-out set.

    Returns:
        One text, or nothing.
    """
    if trained is None:
        return []
    found = []
    for raw_id in trained.stated_names.keys() & held_out.stated_names.keys():
        names = trained.stated_names[raw_id], held_out.stated_names[raw_id]
        same_class = _label(trained.spec, raw_id) == _label(held_out.spec, raw_id)
        if same_class and plain_name(names[0]) != plain_name(names[1]):
            found.append(f"{raw_id!r} is '{names[0]}' there and '{names[1]}' here")
    if not found:
        return []
    listed = first_few(sorted(found), _MAX_EXAMPLES, "; ")
    return [
        f"the files of training ('{trained.spec.name}') and of this held-out set name {len(found)} "
        f"categories differently: {listed}. Correct the `ids` of one of them"
    ]


def _label(spec: DatasetSpec, raw_id: RawId) -> str | None:
    index = spec.id_map.get(raw_id)
    return None if index is None else spec.labels[index]
