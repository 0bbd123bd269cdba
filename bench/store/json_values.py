"""Values as JSON has them. Torch-free.

Numbers that are not finite are legal (an undefined correlation, a diverged objective), stored as
the strings "NaN", "Infinity" and "-Infinity": valid JSON that comes back as the same number.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

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
