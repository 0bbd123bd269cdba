"""Why a comparison says nothing: not a number, or too few prompts to say anything at all.

Neither is the same as two methods that were looked at closely enough and do not differ.
"""

import numpy as np
from numpy.typing import NDArray

from reports.statistics import LEVEL, prompts_needed, smallest_p

TOO_FEW = "too few prompts to tell"
UNDEFINED = "undefined"


def too_few(prompts: int, comparisons: int) -> str:
    """Return why nothing can be told with so many prompts in a family of tests; "" where it can.

    The smallest p of n prompts is 2^(1-n); Holm's first step multiplies it by the comparisons.
    """
    if smallest_p(prompts) * comparisons < LEVEL:
        return ""
    needed = prompts_needed(comparisons)
    many = "1 comparison needs" if comparisons == 1 else f"{comparisons} comparisons need"
    return f"{TOO_FEW} ({prompts}; {many} {needed})"


def undefined(**values: NDArray[np.float64]) -> str:
    """Return whose values (prompt,) are not numbers on how many prompts; "" where all are."""
    found = [
        f"E₀ of {name} is no number on {bad} of {len(one)} prompts"
        for name, one in values.items()
        if (bad := int((~np.isfinite(one)).sum()))
    ]
    return f"{UNDEFINED}: {' and '.join(found)}" if found else ""


def says_nothing(verdict: str) -> bool:
    """Whether a verdict is one of these."""
    return verdict.startswith((TOO_FEW, UNDEFINED))
