"""Publish a trained model on the Hub, in one commit; with --space also the demo that shows it.

hf auth login
python examples/publish.py --model outputs/shapes --repo me/dataseg-shapes --dry_run
python examples/publish.py --model outputs/shapes --repo me/shapes --license apache-2.0 --space
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dataseg_hf.sharing.publishing import (
    CARD,
    Publication,
    PublishError,
    model_publication,
    send,
    space_publication,
)

SPACE = Path(__file__).resolve().parents[1] / "spaces" / "dataseg-demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all is on the Hub, 1 when the Hub did not take it, 2 for a model that cannot
    be published.
    """
    options = parse_options(arguments)
    try:
        model = model_publication(options.model, options.repo, options.license, options.picture)
        publications = [model]
        if not options.dry_run:
            model.check()
        if options.space:
            publications.append(space_publication(SPACE, options.repo, options.repo))
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for publication in publications:
        print(listing(publication))
        if options.dry_run and publication.repo_type == "model":
            print(f"\n{CARD}:\n\n{bytes(publication.files[CARD]).decode()}")
    if options.dry_run:
        print("Dry run: nothing was sent.", *[p.missing for p in publications if p.missing])
        return 0
    for publication in publications:
        try:
            message = f"Publish the {publication.repo_type}"
            print(
                f"Published: {send(publication, private=options.private or None, message=message)}"
            )
        except PublishError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Publish a DaTaSeg model on the Hugging Face Hub.")
    parser.add_argument(
        "--model", required=True, type=Path, help="folder of a finished run, or of a saved model"
    )
    parser.add_argument(
        "--repo", required=True, help="id of the repository, owner/name; made where it is missing"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--license",
        help="of the weights, as the Hub writes it, e.g. apache-2.0; without, see the choices",
    )
    parser.add_argument(
        "--picture",
        help="held-out set whose predictions the card shows, or none; by default only a set of "
        "drawn scenes, as photographs have owners",
    )
    parser.add_argument(
        "--space", action="store_true", help="also publish the demo as a Space of the same id"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="show what would go up, and the card; send nothing"
    )
    return parser.parse_args(arguments)


def listing(publication: Publication) -> str:
    """Every file with its size."""
    sizes = publication.sizes()
    lines = [f"{size:>13,}  {name}" for name, size in sizes.items()]
    lines += [f"{'variable':>13}  {name}={value}" for name, value in publication.variables.items()]
    total = f"{len(sizes)} files, {sum(sizes.values()):,} bytes"
    return "\n".join([f"{publication.repo_type} {publication.repo}: {total}", *lines])


if __name__ == "__main__":
    sys.exit(main())
