"""The table of the paper's claims, from the stored results of its presets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pandas import DataFrame

from reports.claims import CLAIMS
from reports.claims.claim import EXACT, Claim, Measured, Source, Verdict
from reports.load import Results, load
from reports.missing import DAMAGED, FAILED, NOT_COMPUTED, SET_ASIDE, by_status
from reports.text import MISSING, number
from tasks.errors import UserInputError

HEADER = (
    "claim",
    "model",
    "measured",
    "here",
    "interval",
    "paper",
    "verdict",
    "rule",
    "preset",
    "note",
)
SAID = {
    DAMAGED: "cannot be read",
    SET_ASIDE: "were damaged and set aside",
    NOT_COMPUTED: "have not been computed",
}
"""Of cells without a result that did not fail."""


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
class Judged:
    """A claim with its verdict for one model.

    Attributes:
        model: "" where the presets have not been run.
        measured: None where nothing could be measured.
        reason: why nothing can be said, or what is missing; "" where nothing is.
    """

    claim: Claim
    measured: Measured | None
    verdict: Verdict
    reason: str
    model: str = ""

    @property
    def here(self) -> str:
        """The number with its interval, as it is printed."""
        if self.measured is None:
            return MISSING
        one = self.measured
        if one.interval_from == EXACT and one.low == one.high:
            return number(one.value, 0)
        ends = "" if np.isnan(one.low) else f" [{number(one.low, 2)}, {number(one.high, 2)}]"
        return f"{number(one.value, 2)}{ends}"

    @property
    def note(self) -> str:
        """What else a reader has to know."""
        own = self.measured.note if self.measured else ""
        return "; ".join(text for text in (self.reason, own) if text)


def judge(claim: Claim, source: Source) -> Judged:
    """Measure a claim and apply its rule; without an interval nothing can be said."""
    missing = []
    try:
        for preset in claim.presets:
            missing += _incomplete(preset, source.results(preset))
        measured = claim.measure(source)
    except UserInputError as error:
        return Judged(claim, None, "cannot be said", str(error))
    reason = "; ".join(missing)
    if not np.isfinite([measured.value, measured.low, measured.high]).all():
        why = "one repetition only: no interval" if np.isfinite(measured.value) else "undefined"
        return Judged(claim, measured, "cannot be said", "; ".join([why, *missing]))
    if measured.doubt:
        return Judged(claim, measured, "cannot be said", "; ".join([measured.doubt, *missing]))
    return Judged(claim, measured, claim.rule.verdict(measured.low, measured.high), reason)


def _incomplete(preset: str, results: Results) -> list[str]:
    """What of a preset has no result."""
    found = []
    for status, cells in by_status(results.missing):
        if status == FAILED:
            found.append(f"{len(cells)} cells of {preset} failed ({cells[0].reason})")
        elif status in SAID:
            found.append(f"{len(cells)} cells of {preset} {SAID[status]}")
    return found


def judged(source: PaperResults, claims: Sequence[Claim] = CLAIMS) -> list[Judged]:
    """Judge every claim, in the table's order, for each model that its presets were run on."""
    return [
        replace(judge(claim, source.of(model)), model=model) if model else judge(claim, source)
        for claim in claims
        for model in (source.models(claim.presets) or [""])
    ]


def frame(rows: Sequence[Judged]) -> DataFrame:
    """Return the table at full precision, a row a claim, with the ids of its cells."""
    return DataFrame(
        [
            {
                "name": row.claim.name,
                "claim": row.claim.text,
                "model": row.model,
                "measured": row.claim.quantity,
                "value": row.measured.value if row.measured else float("nan"),
                "low": row.measured.low if row.measured else float("nan"),
                "high": row.measured.high if row.measured else float("nan"),
                "interval": row.measured.interval_from if row.measured else "",
                "paper": row.claim.paper,
                "verdict": row.verdict,
                "rule": row.claim.rule.words,
                "preset": ", ".join(row.claim.presets),
                "note": row.note,
                "cells": " ".join(row.measured.cells) if row.measured else "",
            }
            for row in rows
        ]
    )


def lines(rows: Sequence[Judged]) -> list[list[str]]:
    """Return the table as it is printed, in the columns of `HEADER`."""
    return [
        [
            row.claim.text,
            row.model or MISSING,
            row.claim.quantity,
            row.here,
            row.measured.interval_from if row.measured else MISSING,
            row.claim.paper or MISSING,
            row.verdict,
            row.claim.rule.words,
            ", ".join(row.claim.presets),
            row.note or MISSING,
        ]
        for row in rows
    ]
