"""Judges the paper's claims by the stored results of its presets, and writes the first page of
`run paper`: their table, and where each preset's report is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from itertools import groupby
from pathlib import Path

import numpy as np
from pandas import DataFrame

from reports.claims import CLAIMS
from reports.claims.claim import EXACT, Claim, Measured, PaperResults, Verdict
from reports.html import environment
from reports.load import Results
from reports.missing import DAMAGED, FAILED, NOT_COMPUTED, SET_ASIDE
from reports.text import MISSING, number
from reports.write import write_table
from tasks.errors import UserInputError

COLUMNS = (
    *("claim", "model", "measured", "here", "interval", "paper", "verdict", "at price"),
    *("verdict at price", "would decide", "rule", "preset", "note"),
)
"""Of the table as it is printed."""
IN_PRINT = ("claim", "model", "here", "paper", "verdict", "verdict at price")
"""Columns of the LaTeX table: what fits a page."""
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
        at_price: of one that compares E_0, the same at equal price.
    """

    claim: Claim
    measured: Measured | None
    verdict: Verdict
    reason: str
    model: str = ""
    at_price: "Judged | None" = None

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

    @property
    def would_decide(self) -> str:
        """What would decide a claim that cannot be said, from the spread seen here."""
        if self.verdict != "cannot be said" or self.measured is None:
            return ""
        return self.measured.would_decide(self.claim.rule)

    @property
    def notes(self) -> str:
        """The note, and that at equal price."""
        there = self.at_price.note if self.at_price else self.claim.no_price
        return _joined(self.note, there)

    @property
    def would_decide_all(self) -> str:
        """What would decide it, and at equal price."""
        there = self.at_price.would_decide if self.at_price else ""
        return _joined(self.would_decide, there)


def _joined(own: str, at_price: str) -> str:
    return "; ".join(filter(None, [own, at_price and f"at equal price: {at_price}"]))


def judge(claim: Claim, source: PaperResults) -> Judged:
    """Measure a claim and apply its rule; without an interval nothing can be said.

    One whose measure takes `at_price` is judged at equal price too.
    """
    own = _judge(claim, claim.measure, source)
    if claim.no_price or "at_price" not in signature(claim.measure).parameters:
        return own
    return replace(own, at_price=_judge(claim, partial(claim.measure, at_price=True), source))


def _judge(
    claim: Claim, measure: Callable[[PaperResults], Measured], source: PaperResults
) -> Judged:
    missing = []
    try:
        for preset in claim.presets:
            missing += _incomplete(preset, source.results(preset))
        measured = measure(source)
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
    for status, of_status in groupby(results.missing, lambda one: one.status):
        cells = list(of_status)
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
                **{
                    f"{end}_at_price": getattr(there, end, np.nan)
                    for there in [row.at_price and row.at_price.measured]
                    for end in ("value", "low", "high")
                },
                "at price": row.at_price.here if row.at_price else "",
                "verdict at price": row.at_price.verdict if row.at_price else "",
                "would decide": row.would_decide_all,
                "rule": row.claim.rule.words,
                "preset": ", ".join(row.claim.presets),
                "note": row.notes,
                "cells": " ".join(row.measured.cells) if row.measured else "",
            }
            for row in rows
        ],
        dtype=object,
    )
    return found.where(found.notna(), None)


def write_claims(directory: Path | str, presets: Sequence[str]) -> Path:
    """Write index.html and claims.csv, .md and .tex into `directory`; return the page's path.

    Args:
        directory: holds the results of the presets, a folder each.
        presets: the ones to link, in order.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserInputError(f"{directory} is not a folder of results of the paper's presets.")
    rows = judged(PaperResults(directory))
    found = frame(rows)
    printed = found[list(COLUMNS)].replace("", MISSING)
    note = "the claims of the paper; rules and cells are in claims.csv"
    exact = found.drop(columns=["here", "at price"])
    write_table(exact, printed, lambda kind: directory / f"claims.{kind}", note, IN_PRINT)
    page = directory / "index.html"
    page.write_text(_page(directory, rows, presets), encoding="utf-8")
    return page


def _page(directory: Path, rows: Sequence[Judged], presets: Sequence[str]) -> str:
    reports = {
        preset: f"{preset}/report/index.html"
        for preset in presets
        if (directory / preset / "report" / "index.html").is_file()
    }
    counts = {
        verdict: sum(row.verdict == verdict for row in rows)
        for verdict in ("holds", "does not hold", "cannot be said")
    }
    template = environment().get_template("claims.html.jinja")
    return str(
        template.render(
            name=directory.resolve().name,
            models=PaperResults(directory).models(presets),
            counts=counts,
            rows=rows,
            reports=reports,
            missing=[preset for preset in presets if preset not in reports],
        )
    )
