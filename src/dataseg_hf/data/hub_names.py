"""Names that may be folders here or repositories on the Hub."""

from pathlib import Path


def is_missing_path(name_or_path: str) -> bool:
    """Whether a name can only be a path of this machine, as no repository is called so, and nothing is there."""
    looks_like_path = name_or_path.startswith((".", "/", "~", "\\")) or "\\" in name_or_path
    return (looks_like_path or name_or_path.count("/") > 1) and not Path(name_or_path).expanduser().exists()


def asked_of_the_hub(name_or_path: str) -> str:
    """What to add to an error of the Hub: that no folder of that name is here."""
    return "" if Path(name_or_path).exists() else f" (no folder '{name_or_path}' is here, so the Hub was asked for it)"


def hub_reference(name_or_path: str) -> tuple[str, str | None]:
    """`org/name@revision` in its two parts; a folder is taken as it is."""
    name, at, revision = name_or_path.rpartition("@")
    return (name_or_path, None) if not at or Path(name_or_path).exists() else (name, revision)
