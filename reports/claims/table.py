"""The table of the paper's claims, from the stored results of its presets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pandas import DataFrame

from reports.claims import CLAIMS
from reports.claims.claim import EXACT, Claim, Measured, PaperResults, Verdict
from reports.load import Results
from reports.missing import DAMAGED, FAILED, NOT_COMPUTED, SET_ASIDE, by_status
from reports.text import MISSING, number
from tasks.errors import UserInputError

COLUMNS = (
    *("claim", "model", "measured", "here", "interval", "paper", "verdict", "rule", "preset"),
    "note",
)
"""Of the table as it is printed."""
SAID = {
    DAMAGED: "cannot be read",
    SET_ASIDE: "were damaged and set aside",
    NOT_COMPUTED: "have not been computed",
}
"""Of cells without a result that did not fail."""


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


def judge(claim: Claim, source: PaperResults) -> Judged:
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
    """Return the table at full precision, a row a claim, with the ids of its cells.

    None: there is no such number. What is printed of it are the columns of `COLUMNS`.
    """
    found = DataFrame(
        [
            {
                "name": row.claim.name,
                "claim": row.claim.text,
                "model": row.model,
                "measured": row.claim.quantity,
                **{end: getattr(row.measured, end, np.nan) for end in ("value", "low", "high")},
                "here": row.here,
                "interval": row.measured.interval_from if row.measured else "",
                "paper": row.claim.paper,
                "verdict": row.verdict,
                "rule": row.claim.rule.words,
                "preset": ", ".join(row.claim.presets),
                "note": row.note,
                "cells": " ".join(row.measured.cells) if row.measured else "",
            }
            for row in rows
        ],
        dtype=object,
    )
    return found.where(found.notna(), None)
