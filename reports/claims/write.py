"""Writes the first page of `run paper`: the table of claims, and where each preset's report is."""

from collections.abc import Sequence
from pathlib import Path

from reports.claims.table import HEADER, Judged, PaperResults, frame, judged, lines
from reports.html import environment
from reports.latex import latex
from reports.text import harmless, markdown
from tasks.errors import UserInputError

IN_PRINT = ("claim", "model", "here", "paper", "verdict")
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
    printed = lines(rows)
    frame(rows).map(lambda value: harmless(value) if isinstance(value, str) else value).to_csv(
        directory / "claims.csv", index=False
    )
    (directory / "claims.md").write_text(markdown(HEADER, printed), encoding="utf-8")
    places = [HEADER.index(name) for name in IN_PRINT]
    short = [[row[place] for place in places] for row in printed]
    note = "the claims of the paper; rules and cells are in claims.csv"
    (directory / "claims.tex").write_text(latex(IN_PRINT, short, note=note), encoding="utf-8")
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
