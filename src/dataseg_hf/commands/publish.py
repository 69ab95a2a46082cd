"""Publish a trained model on the Hub, in one commit; with --space also the demo that shows it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .options import OptionParser, report_error

DEMO = Path(__file__).resolve().parents[3] / "spaces" / "dataseg-demo"  # of a clone
if TYPE_CHECKING:
    from ..sharing.publishing import Publication


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all is on the Hub, 1 when the Hub did not take it, 2 for a model that cannot
    be published.
    """
    options = parse_options(arguments)
    from ..sharing.publishing import PublishError, model_publication, send, space_publication

    try:
        model = model_publication(options.model, options.repo, options.license, options.picture)
        publications = [model]
        if not options.dry_run:
            model.check()
        if options.space is not None:
            publications.append(space_publication(options.space, options.repo, options.repo))
    except (OSError, ValueError) as error:
        report_error(error)
        return 2
    show(publications, with_card=options.dry_run)
    if options.dry_run:
        print("Dry run: nothing was sent.", *[p.missing for p in publications if p.missing])
        return 0
    for publication in publications:
        message = f"Publish the {publication.repo_type}"
        try:
            address = send(publication, private=options.private or None, message=message)
        except PublishError as error:
            report_error(error)
            return 1
        print(f"Published: {address}")
    return 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(
        prog="dataseg publish", description="Publish a DaTaSeg model on the Hugging Face Hub."
    )
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
        "--space",
        type=Path,
        nargs="?",
        const=DEMO,
        metavar="FOLDER",
        help="also publish the demo as a Space of the same id; FOLDER is spaces/dataseg-demo of a "
        "clone, found by itself where the package is installed from one",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="show what would go up, and the card; send nothing"
    )
    return parser.parse_args(arguments)


def show(publications: Sequence["Publication"], with_card: bool) -> None:
    """Print every file with its size, and the model card if asked."""
    from ..sharing.publishing import CARD

    for publication in publications:
        print(publication.listing())
        if with_card and publication.repo_type == "model":
            print(f"\n{CARD}:\n\n{bytes(publication.files[CARD]).decode()}")


if __name__ == "__main__":
    sys.exit(main())
