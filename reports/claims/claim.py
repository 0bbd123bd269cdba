"""What a claim is: words, a number with its interval, and a rule that gives the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from pathlib import Path
from typing import Literal

import numpy as np

from bench.store.records import CellRecord
from reports.load import Results, finished, load
from reports.statistics import MOST_VALUES, t_interval, values_needed
from reports.text import number
from tasks.errors import UserInputError

Verdict = Literal["holds", "does not hold", "cannot be said"]
EXACT = "exact"
"""Of a number that is counted: it has no interval."""


@dataclass
class PaperResults:
    """The results of the paper's presets, a folder each; each is read once.

    Attributes:
        model: whose cells alone are given; None: those of all models.
    """

    directory: Path
    model: str | None = None
    _loaded: dict[str, Results] = field(default_factory=dict, repr=False)

    def results(self, preset: str) -> Results:
        """The results of a preset; raises UserInputError where it has not been run."""
        if preset not in self._loaded:
            self._loaded[preset] = load(self.directory / preset)
        found = self._loaded[preset]
        return found if self.model is None else found.only(models=[self.model])

    def finished(self, preset: str, method: str) -> list[CellRecord]:
        """The finished cells of a method; raises UserInputError where there are none."""
        results = self.results(preset)
        if found := finished(results.records, method):
            return found
        raise UserInputError(f"no finished cell of {method} in {results.store.directory}")

    def models(self, presets: Sequence[str]) -> list[str]:
        """The models that presets were run on, those that have not been run left out."""
        found: dict[str, None] = {}
        for preset in presets:
            try:
                found |= dict.fromkeys(model for model, _ in self.results(preset).pairs())
            except UserInputError:
                continue
        return list(found)

    def of(self, model: str) -> "PaperResults":
        """The results of one model alone."""
        return replace(self, model=model)


@dataclass(frozen=True)
class Rule:
    """Holds where the whole interval lies above `lowest`, below `highest`, or between the two.

    A single end does not belong to where the claim holds; of two both do.
    """

    lowest: float = -inf
    highest: float = inf

    @property
    def words(self) -> str:
        """The rule as the table states it."""
        known = [end for end in (self.lowest, self.highest) if isfinite(end)]
        ends = [number(end, 2).rstrip("0").rstrip(".") for end in known]
        if len(ends) == 2:
            there, elsewhere = f"between {ends[0]} and {ends[1]}", "outside"
        elif isfinite(self.lowest):
            there, elsewhere = f"above {ends[0]}", "at or below"
        else:
            there, elsewhere = f"below {ends[0]}", "at or above"
        return f"holds if the whole interval is {there}, does not if all of it is {elsewhere}"

    def distance(self, value: float) -> float:
        """How far a number is from the nearest end."""
        ends = [end for end in (self.lowest, self.highest) if isfinite(end)]
        return min(abs(value - end) for end in ends)

    def verdict(self, low: float, high: float) -> Verdict:
        """What an interval says."""
        if isfinite(self.lowest) and isfinite(self.highest):
            holds = self.lowest <= low and high <= self.highest
            fails = high < self.lowest or low > self.highest
        else:
            holds = self.lowest < low and high < self.highest
            fails = high <= self.lowest or low >= self.highest
        return "holds" if holds else "does not hold" if fails else "cannot be said"


@dataclass(frozen=True)
class Measured:
    """What was measured for a claim.

    Attributes:
        value, low, high: the number and its interval; NaN ends: no interval.
        interval_from: what the interval is over.
        cells: ids of the cells that the number was made of.
        note: what else a reader has to know.
        doubt: why the number decides nothing, whatever its interval; "" where it does.
        n, unit, deviation: what was repeated, how often, and the standard deviation that one of
            them adds to the number; "" where the interval does not shrink with more of anything.
    """

    value: float
    low: float
    high: float
    interval_from: str
    cells: tuple[str, ...]
    note: str = ""
    doubt: str = ""
    n: int = 0
    unit: str = ""
    deviation: float = float("nan")

    @staticmethod
    def of(
        values: Sequence[float],
        over: str,
        cells: Sequence[str],
        note: str = "",
        possible: tuple[float, float] = (-inf, inf),
    ) -> "Measured":
        """A mean over independent repetitions with Student's interval, cut to `possible`."""
        interval = t_interval(values, possible)
        return Measured(
            interval.mean,
            interval.low,
            interval.high,
            f"95 %, {interval.n} {over}",
            tuple(cells),
            note,
            n=interval.n,
            unit=over,
            deviation=interval.deviation,
        )

    @staticmethod
    def of_draws(
        value: float,
        draws: Sequence[float],
        n: int,
        unit: str,
        cells: Sequence[str],
        note: str = "",
    ) -> "Measured":
        """A number with the 95 % range of its bootstrap draws of `n` units."""
        known = np.asarray(draws, dtype=float)
        known = known[np.isfinite(known)]
        low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
        deviation = float(known.std() * n**0.5) if known.size else float("nan")
        over = f"95 %, {len(draws)} draws of {n} {unit}"
        ends = (float(low), float(high))
        return Measured(value, *ends, over, tuple(cells), note, n=n, unit=unit, deviation=deviation)

    def would_decide(self, rule: Rule) -> str:
        """How many repetitions would decide what this number does not, from its observed spread."""
        if self.doubt:
            return "no number of repetitions: it is not the interval that is in doubt"
        if not self.unit:
            return "no number of repetitions: the rule is about all of them"
        if not isfinite(self.deviation):
            return f"at least 2 {self.unit}, to see how far they spread"
        needed = values_needed(self.deviation, rule.distance(self.value))
        if needed is None:
            return f"more than {MOST_VALUES:,} {self.unit}: the number lies at the rule's edge"
        return f"about {max(needed, self.n + 1):,} {self.unit} instead of {self.n}"


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
            have it. One that takes `at_price` is judged at equal price too.
        no_price: of one that compares E_0, why it is not judged so.
    """

    name: str
    text: str
    quantity: str
    presets: tuple[str, ...]
    rule: Rule
    measure: Callable[..., Measured]
    paper: str = ""
    no_price: str = ""
