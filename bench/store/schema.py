"""What all that is stored has in common: a strict schema, values as JSON has them, cut texts.

Numbers that are not finite are legal (an undefined correlation, a diverged objective), stored as
the strings "NaN", "Infinity" and "-Infinity": valid JSON that comes back as the same number.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: object) -> Any:
    """Return `value` in JSON's own types: dict with string keys, list, str, int, float, bool, None.

    Tuples become lists, NumPy numbers Python's, and the three strings that stand for numbers that
    are not finite become these numbers. Raises ValueError for any other type, naming it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return NON_FINITE.get(value, str(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise ValueError(f"{value!r} ({type(value).__name__}) cannot be stored as JSON")


def strict_json(value: object) -> Any:
    """Return `plain(value)` with numbers that are not finite as strings: ready for `json.dumps`."""
    value = value if isinstance(value, str) else plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict_json(item) for item in value]
    return value


PlainDict = Annotated[dict[str, Any], BeforeValidator(plain)]
"""A mapping in JSON's own types, whatever it was made of."""

MAX_NAME, MAX_LINE, MAX_TEXT, MAX_LOG = 100, 200, 2_000, 100_000
"""Characters of what a method says in a record: names, first lines, messages and notes, logs."""


def cut(text: str, most: int) -> str:
    """Return `text`, or its head and its tail with how much is left out, at most so long."""
    if len(text) <= most:
        return text
    room = most - len(f"\n[... {len(text)} characters are left out ...]\n")
    head = room // 2
    left_out = len(text) - room
    return f"{text[:head]}\n[... {left_out} characters are left out ...]\n{text[head - room :]}"


Name = Annotated[str, AfterValidator(lambda text: text[:MAX_NAME])]
Text = Annotated[str, AfterValidator(lambda text: cut(text, MAX_TEXT))]
Log = Annotated[str, AfterValidator(lambda text: cut(text, MAX_LOG))]


class StrictRecord(BaseModel):
    """Frozen; a key that the schema does not know is an error. JSON as in `strict_json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")
