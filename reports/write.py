"""Writes the whole report of a run: the page, the figures and the tables."""

import re
from pathlib import Path

from reports import style
from reports.figures import FIGURES
from reports.html import Figures, page
from reports.load import Results, load
from reports.present import formatted
from reports.tables.leaderboard import leaderboard
from reports.text import markdown
from tasks.errors import UserInputError


def write_report(results_dir: Path | str, out: Path | str | None = None) -> Path:
    """Write index.html, figures/*.png and *.pdf, tables/*.csv and *.md; return index.html's path.

    `out` is the folder, by default report/ in the run directory; what is there is overwritten.
    Raises UserInputError where `results_dir` is not a run or `out` is a file.
    """
    results = load(results_dir)
    folder = Path(out) if out is not None else results.store.directory / "report"
    for part in (folder, folder / "figures", folder / "tables"):
        if part.exists() and not part.is_dir():
            raise UserInputError(f"{part} is a file; the report needs a folder of that name")
        try:
            part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserInputError(f"The report cannot be written to {part}: {error}") from None
    figures = make_figures(results)
    names = file_names(results.pairs())
    for pair, made in figures.items():
        for kind, figure in made.items():
            with style.context():
                file = folder / "figures" / f"{kind}-{names[pair]}"
                figure.savefig(file.with_name(f"{file.name}.png"), dpi=200)
                dateless = {"CreationDate": None}
                figure.savefig(file.with_name(f"{file.name}.pdf"), dpi=200, metadata=dateless)
    _write_tables(results, folder / "tables", names)
    index = folder / "index.html"
    index.write_text(page(results, figures), encoding="utf-8")
    return index


def make_figures(results: Results) -> Figures:
    """Return the figures of every model and task that has something to show."""
    figures: Figures = {}
    for pair in results.pairs():
        made = figures.setdefault(pair, {})
        for name in ("comparison", "agreement"):
            try:
                made[name] = FIGURES[name].figure(results, model=pair[0], task=pair[1])
            except UserInputError:  # nothing stored to show: the page says which cells failed
                continue
    return figures


def file_names(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a safe, distinct file name stem for every (model, task)."""
    names: dict[tuple[str, str], str] = {}
    for pair in pairs:
        plain = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part).strip("._") for part in pair)
        taken = {name.casefold() for name in names.values()}
        name, count = plain, 1
        while name.casefold() in taken:
            count += 1
            name = f"{plain}-{count}"
        names[pair] = name
    return names


def _write_tables(results: Results, folder: Path, names: dict[tuple[str, str], str]) -> None:
    for pair, name in names.items():
        board = leaderboard(results, *pair)
        # an undefined number and none at all must not look the same
        exact = board.map(lambda value: "NaN" if value != value else value)
        exact.to_csv(folder / f"leaderboard-{name}.csv", index=False)
        frame = formatted(board)
        text = markdown(list(frame.columns), frame.to_numpy().tolist())
        (folder / f"leaderboard-{name}.md").write_text(text, encoding="utf-8")
    if len(results.agreement):
        results.agreement.to_csv(folder / "agreement.csv", index=False)
