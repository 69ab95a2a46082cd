"""What all settings classes share: they are frozen, refuse unknown keys, and take their help from
the docstring below each field.
"""

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Strict


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


Number: TypeAlias = Annotated[float, AllowInfNan(False), BeforeValidator(_no_boolean)]
"""A finite number. A text is taken for one where it can be: older YAML writes '1e-4'."""
PositiveNumber: TypeAlias = Annotated[Number, Gt(0)]
NonNegativeNumber: TypeAlias = Annotated[Number, Ge(0)]
Fraction: TypeAlias = Annotated[Number, Ge(0), Le(1)]
Decay: TypeAlias = Annotated[Number, Ge(0), Lt(1)]
Integer: TypeAlias = Annotated[int, Strict()]
PositiveInteger: TypeAlias = Annotated[Integer, Gt(0)]
NonNegativeInteger: TypeAlias = Annotated[Integer, Ge(0)]
RawId: TypeAlias = Integer | str
"""An id as the annotation stores it: a number, or a word."""


@dataclass(frozen=True)
class InWords:
    """What the reference calls a type; stands in `Annotated`."""

    words: str


class Settings(BaseModel):
    """Settings that are checked when they are made; `model_copy(update=...)` does not check.

    Raises:
        pydantic.ValidationError: for an unknown key, a value of a wrong type or out of range, and
            values that contradict each other. `parsing` turns it into a ConfigError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def as_plain(self) -> dict[str, Any]:
        """The settings as JSON and YAML can hold them."""
        return self.model_dump(mode="json")
