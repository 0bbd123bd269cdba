"""Writes published results: the data, a table, pictures, and the page beside their folder."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from bench.store.files import replace_file
from reports import style
from reports.figures import FIGURES
from reports.load import Results, load
from reports.published.cells import published_of
from reports.published.findings import summary
from reports.published.page import CIRCUITS, DATA, FINDING, MARK, PICTURES, TABLE, page_of, pictures
from reports.published.record import text_of
from reports.published.results import load_published
from reports.write import csv_text
from tasks.errors import UserInputError

DPI = 130


def publish(run: Path | str, folder: Path | str, circuits: Path | str | None = None) -> Path:
    """Write what is published of a run into `folder`, and return the path of the page.

    `results.json`, `leaderboard.csv` and pictures into the folder, and the page beside it, called
    like the folder: docs/results.md for docs/results. An earlier publication is replaced.
    `circuits` is a run on models whose circuit is known; it is `circuits.json` and a section.

    Raises UserInputError where the run has nothing to publish or too much (2 MB), and where the
    page's file was not written by `publish`.
    """
    folder = Path(folder)
    page = folder.parent / f"{folder.name}.md"
    if folder.is_file() or (page.exists() and not page.read_text("utf-8").startswith(MARK)):
        raise UserInputError(
            f"{folder if folder.is_file() else page} is there, and `publish` did not write it: it "
            "stays as it is. Give another folder."
        )
    found = "" if circuits is None else _with_finding(circuits)
    text = text_of(published_of(load(run)), beside=len(found.encode()))
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / DATA, text.encode())
    results = load_published(folder / DATA)
    replace_file(folder / TABLE, csv_text(summary(results)).encode())
    for old in (*(one for name in PICTURES for one in folder.glob(f"{name}-*.png")),
                folder / CIRCUITS, folder / f"{FINDING}.png"):  # fmt: skip
        old.unlink(missing_ok=True)
    for stem, name, scope in pictures(results):
        figure = FIGURES[name].figure(results, width=style.PAGE, **scope)
        replace_file(folder / f"{stem}.png", _png(figure))
    if found:
        replace_file(folder / CIRCUITS, found.encode())
        figure = FIGURES[FINDING].figure(load_published(folder / CIRCUITS), width=style.PAGE)
        replace_file(folder / f"{FINDING}.png", _png(figure))
    replace_file(page, page_of(results, folder.name, circuits_in(folder)).encode())
    return page


def circuits_in(folder: Path) -> Results | None:
    """Return what is published of models whose circuit is known; None where nothing is."""
    file = folder / CIRCUITS
    return load_published(file) if file.is_file() else None


def _with_finding(run: Path | str) -> str:
    published = published_of(load(run))
    if not any(cell.finding for cell in published.cells):
        raise UserInputError(
            f"{run} has no cell on a model whose circuit is known (`run truth` has), and nothing "
            "was published."
        )
    return text_of(published)


def _png(figure: Figure) -> bytes:
    """A picture with 256 colours."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    with style.context():
        figure.savefig(drawn, format="png", dpi=DPI)
    Image.open(drawn).convert("RGB").quantize(256).save(small, "png", optimize=True)
    return small.getvalue()
