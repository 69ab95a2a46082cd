"""Names that may be folders here or repositories on the Hub."""

from pathlib import Path


def is_missing_path(name_or_path: str) -> bool:
    """Whether a name can only be a path of this machine, as no repository is called so, and nothing
    is there.
    """
    looks_like_path = name_or_path.startswith((".", "/", "~", "\\")) or "\\" in name_or_path
    return (looks_like_path or name_or_path.count("/") > 1) and not Path(
        name_or_path
    ).expanduser().exists()


def loading_failure(name_or_path: str, error: BaseException) -> str:
    """One line for what failed to load; of a name that is no folder here it says so first, before
    the Hub's reason.
    """
    reason = " ".join(str(error).split())
    if Path(name_or_path).exists():
        return reason
    return (
        f"no folder '{name_or_path}' is here, and the Hub does not give a repository of that name: "
        f"{reason}"
    )


def hub_reference(name_or_path: str) -> tuple[str, str | None]:
    """`org/name@revision` in its two parts; a folder is taken as it is."""
    name, at, revision = name_or_path.rpartition("@")
    return (name_or_path, None) if not at or Path(name_or_path).exists() else (name, revision)
