"""What keys of a matrix may hold, whichever key it is."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from tasks.registry import FITS, beyond


def no_truth(value: object) -> object:
    """True and false are no numbers, though Python counts with them."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


Whole = Annotated[int, Field(ge=FITS.start, lt=FITS.stop), BeforeValidator(no_truth)]
"""What tables hold."""
Count = Annotated[Whole, Field(ge=1)]
Number = Annotated[Whole, Field(ge=0)]
"""How many, if any. Also what torch draws by."""
Weight = Annotated[float, Field(ge=0), BeforeValidator(no_truth)]

T = TypeVar("T")
Each = Annotated[
    list[T],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    PlainSerializer(lambda values: values[0] if len(values) == 1 else values),
]
"""A value, or a list of values that each get cells of their own: a grid search."""


STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
"""A key that the schema does not know is an error."""


class Choice(BaseModel):
    """A task or a method by name; every other key is one of its own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="after")
    def _fits(self) -> Choice:
        for name, value in self.settings.items():
            if problem := beyond(value):
                raise ValueError(f'the setting "{name}" {problem}')
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were given."""
        return dict(self.model_extra or {})


def choices(items: Any) -> Any:
    """A list in which a name alone stands for {name: ...}; anything else is left to the schema."""
    if not isinstance(items, list):
        return items
    return [{"name": item} if isinstance(item, str) else item for item in items]
