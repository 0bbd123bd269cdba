"""What a claim is: words, a number with its interval, and a rule that gives the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from reports.intervals import Interval
from reports.load import Results
from reports.text import number

Verdict = Literal["holds", "does not hold", "cannot be said"]
EXACT = "exact"
"""Of a number that is counted: it has no interval."""


class Source(Protocol):
    """Where claims read results."""

    def results(self, preset: str) -> Results:
        """The results of a preset; raises UserInputError where there are none."""
        ...


class Rule(Protocol):
    """How a number and its interval become a verdict."""

    @property
    def words(self) -> str:
        """The rule as the table states it."""
        ...

    def verdict(self, low: float, high: float) -> Verdict:
        """What an interval says."""
        ...


@dataclass(frozen=True)
class Above:
    """Holds where the whole interval lies above a threshold."""

    threshold: float

    @property
    def words(self) -> str:
        """The rule as the table states it."""
        at = _plain(self.threshold)
        return f"holds if the whole interval is above {at}, does not if all of it is at or below"

    def verdict(self, low: float, high: float) -> Verdict:
        """What an interval says."""
        return _verdict(low > self.threshold, high <= self.threshold)


@dataclass(frozen=True)
class Below:
    """Holds where the whole interval lies below a threshold."""

    threshold: float

    @property
    def words(self) -> str:
        """The rule as the table states it."""
        at = _plain(self.threshold)
        return f"holds if the whole interval is below {at}, does not if all of it is at or above"

    def verdict(self, low: float, high: float) -> Verdict:
        """What an interval says."""
        return _verdict(high < self.threshold, low >= self.threshold)


@dataclass(frozen=True)
class Within:
    """Holds where the whole interval lies between two bounds."""

    lowest: float
    highest: float

    @property
    def words(self) -> str:
        """The rule as the table states it."""
        between = f"{_plain(self.lowest)} and {_plain(self.highest)}"
        return f"holds if the whole interval is between {between}, does not if all of it is outside"

    def verdict(self, low: float, high: float) -> Verdict:
        """What an interval says."""
        inside = self.lowest <= low and high <= self.highest
        return _verdict(inside, high < self.lowest or low > self.highest)


def _verdict(holds: bool, fails: bool) -> Verdict:
    return "holds" if holds else "does not hold" if fails else "cannot be said"


def _plain(value: float) -> str:
    return number(value, 2).rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Measured:
    """What was measured for a claim.

    Attributes:
        value, low, high: the number and its interval; NaN ends: no interval.
        interval_from: what the interval is over.
        cells: ids of the cells that the number was made of.
        note: what else a reader has to know.
        doubt: why the number decides nothing, whatever its interval; "" where it does.
    """

    value: float
    low: float
    high: float
    interval_from: str
    cells: tuple[str, ...]
    note: str = ""
    doubt: str = ""

    @staticmethod
    def of(
        interval: Interval,
        over: str,
        cells: Sequence[str],
        note: str = "",
    ) -> "Measured":
        """A mean over independent repetitions with Student's interval."""
        return Measured(
            interval.mean,
            interval.low,
            interval.high,
            f"95 %, {interval.n} {over}",
            tuple(cells),
            note,
        )

    @staticmethod
    def of_draws(
        value: float, draws: Sequence[float], over: str, cells: Sequence[str], note: str = ""
    ) -> "Measured":
        """A number with the 95 % range of its bootstrap draws."""
        known = np.asarray(draws, dtype=float)
        known = known[np.isfinite(known)]
        low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
        return Measured(value, float(low), float(high), f"95 %, {over}", tuple(cells), note)


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
        name: short and unique.
        text: what the paper claims.
        quantity: what is measured here, with its unit.
        paper: the paper's number; "" where it gives none.
        presets: which presets' results it is made of.
        rule: gives the verdict from the interval.
        measure: reads the number from stored results; raises UserInputError where they do not
            have it.
    """

    name: str
    text: str
    quantity: str
    paper: str
    presets: tuple[str, ...]
    rule: Rule
    measure: Callable[[Source], Measured]
