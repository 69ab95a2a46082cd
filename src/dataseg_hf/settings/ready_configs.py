"""The configs that come with the package: `--config shapes` works in every folder."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"


def ready_configs() -> list[str]:
    """Names of the ready configs, sorted."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def config_file(text: str) -> str:
    """The file that a `--config` means: a path, or the name of a ready config. A file comes first.

    Raises:
        ConfigError: for a word that is neither.
    """
    path = Path(text)
    if path.suffix or path.name != text or path.is_file():
        return text
    if text not in ready_configs():
        raise ConfigError(
            f"--config: there is no file '{text}' and no ready config of that name; ready are "
            f"{', '.join(ready_configs())}"
        )
    return str(CONFIGS / f"{text}.yaml")


def with_config_files(arguments: Sequence[str]) -> list[str]:
    """Arguments whose `--config NAME` and `--config=NAME` name files; ConfigError as above."""
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] == "--config":
            found.append(config_file(argument))
        elif argument.startswith("--config="):
            found.append(f"--config={config_file(argument.partition('=')[2])}")
        else:
            found.append(argument)
    return found
