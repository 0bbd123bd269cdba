"""Writes the first page of `run paper`: the table of claims, and where each preset's report is."""

from collections.abc import Sequence
from pathlib import Path

from reports.claims.claim import PaperResults
from reports.claims.table import COLUMNS, Judged, frame, judged
from reports.html import environment
from reports.text import MISSING
from reports.write import write_table
from tasks.errors import UserInputError

IN_PRINT = ("claim", "model", "here", "paper", "verdict", "verdict at price")
"""Columns of the LaTeX table: what fits a page."""


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
