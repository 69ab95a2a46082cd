"""Write `settings.md` from the classes of the settings: `python docs/settings_page.py`."""

from pathlib import Path

from dataseg_hf.settings.reference import markdown_tables

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Settings

Written by `python docs/settings_page.py` from the classes of the settings.

A YAML file holds the settings, `--config FILE` names it, and the command line overrides it by the
same keys: `--learning_rate 0.0002 --datasets.mine.batch_size 16`. A key without a value is true:
`--dry_run`. A value is YAML, so lists and mappings are written `'[tensorboard]'` and `'{a: 1}'`.
A later `--config` replaces keys of an earlier one. Environment variables in paths are expanded.

A duration is a number of steps, `"12 epochs of NAME"` (an entry of `datasets`) or
`"90000 images"`. A name on the Hub may end in `@revision`. NAME is a name of your choice.

"""


def page() -> str:
    """The text of the page."""
    return HEAD + markdown_tables()


if __name__ == "__main__":
    PAGE.write_text(page())
