"""Writes the whole report of a run: the page, the figures with their data, and the tables."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from pandas import DataFrame

from reports import palette, style
from reports.figures import FIGURES
from reports.folder import INDEX, ReportFolder
from reports.html import page
from reports.latex import latex
from reports.load import Results, load
from reports.present import strings
from reports.registry import Scope
from reports.sections import ANSWER, Drawn
from reports.tables import TABLES
from reports.tables.change import PAPER, Changes
from reports.text import markdown, no_formula
from tasks.errors import UserInputError
from tasks.registry import lookup

DPI = 200
LONGEST_STEM = 160
"""Letters of a model and task in the name of a file, which takes 255 with what stands around."""
NARROW = 3.75
"""Inches of the page's first picture on a telephone."""


@dataclass(frozen=True)
class ReportOptions:
    """What a report holds and how it is drawn; an empty choice is all.

    Attributes:
        models, tasks, methods: see `Results.only`.
        figures: names of `FIGURES`; none: those that the matrix names, or all if it names none.
        width: of every figure in inches; None: as wide as each asks for.
        palette: a name of `reports.palette.PALETTES`.
        against: another run, whose cells this one's are compared with.
    """

    models: Sequence[str] = ()
    tasks: Sequence[str] = ()
    methods: Sequence[str] = ()
    figures: Sequence[str] = ()
    width: float | None = None
    palette: str = "default"
    against: Path | str | None = None


def write_report(
    results_dir: Path | str,
    out: Path | str | None = None,
    options: ReportOptions | None = None,
) -> Path:
    """Write the report's folder and return the path of its page.

    `index.html`; `figures/*.pdf`, `.svg`, `.png` and, with the numbers behind each, `.csv`;
    `tables/*.csv` with full precision, `.md` and `.tex`. `out` is the folder, by default report/
    in the run directory. What an earlier report wrote there is overwritten, or removed where this
    one writes no such file; files of others stay (`reports.folder`). Raises UserInputError where
    `results_dir` is not a run, `out` is a file, a file of somebody else is in the way, or an option
    names what there is not.
    """
    options = options or ReportOptions()
    for name in options.figures:
        lookup(FIGURES, name, "figure")
    chosen = (options.models, options.tasks, options.methods)
    results = load(results_dir).only(*chosen)
    against = load(options.against).part(*chosen) if options.against is not None else None
    own = results.store.directory / "report"
    if out is None and own.is_symlink():
        raise UserInputError(f"{own} is a symbolic link: give the folder itself with --output.")
    path = own if out is None else Path(out)
    with palette.using(options.palette):
        folder = ReportFolder(path)
        drawn = list(_draw(results, folder, options))
        _write_tables(results, folder)
        changes = None
        if against is not None:
            changes = Changes.of(results, against)
            note = f"change: {changes.here} against {changes.there}"
            shown = strings(changes.frame)
            write_table(changes.frame, shown, _paths(folder, "change"), note, PAPER)
        index = folder.file(INDEX)
        index.write_text(page(results, drawn, changes), encoding="utf-8")
        folder.finish()
    return index


def _draw(results: Results, folder: ReportFolder, options: ReportOptions) -> Iterator[Drawn]:
    """Draw and write the figures asked for: here, else by the matrix, else all."""
    listed = results.store.config.get("figures")
    first = [name for name in listed if name in FIGURES] if isinstance(listed, list) else []
    names = file_names(results.pairs())
    for name in options.figures or first or FIGURES:
        entry = FIGURES[name]
        for scope in entry.scopes(results):
            stem = stem_of(name, scope, names)
            try:
                figure = entry.figure(results, width=options.width, **scope)
            except UserInputError as error:
                yield Drawn(name, scope, stem, first=name in first, missing=str(error))
                continue
            _write_csv(entry.numbers(results, **scope), folder.file(f"figures/{stem}.csv"))
            for what, frame in entry.further(results, **scope).items():
                _write_csv(frame, folder.file(f"figures/{stem}-{what}.csv"))
            files = {kind: folder.file(f"figures/{stem}.{kind}") for kind in ("png", "pdf", "svg")}
            with style.context():
                figure.savefig(files["png"], dpi=DPI)
                figure.savefig(files["pdf"], dpi=DPI, metadata={"CreationDate": None})
            files["svg"].write_bytes(svg := _svg(figure))
            narrow = _svg(entry.figure(results, width=NARROW, **scope)) if name == ANSWER else b""
            inches = figure.get_figwidth()
            yield Drawn(name, scope, stem, svg, inches, name in first, narrow=narrow)


def _svg(figure: Figure) -> bytes:
    """The same figure gives the same bytes."""
    stream = io.BytesIO()
    with style.context():
        figure.savefig(stream, format="svg", dpi=DPI, metadata={"Date": None})
    return stream.getvalue()


def file_names(pairs: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return a safe, distinct file name stem for every (model, task)."""
    names: dict[tuple[str, ...], str] = {}
    for pair in pairs:
        plain = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part).strip("._") for part in pair)
        if len(plain) > LONGEST_STEM:
            plain = plain[-LONGEST_STEM:].lstrip("._-")
        taken = {name.casefold() for name in names.values()}
        name, count = plain, 1
        while name.casefold() in taken:
            count += 1
            name = f"{plain}-{count}"
        names[pair] = name
    return names


def stem_of(name: str, scope: Scope, names: dict[tuple[str, ...], str]) -> str:
    """Return what a file is called that has a figure or table of a model and task."""
    parts = tuple(scope[key] for key in ("model", "task") if key in scope)
    if len(parts) == 1:
        names = file_names(list(dict.fromkeys(pair[:1] for pair in names)))
    return "-".join(filter(None, (name, names[parts] if parts else "")))


def _write_tables(results: Results, folder: ReportFolder) -> None:
    names = file_names(results.pairs())
    for name, entry in TABLES.items():
        for scope in entry.scopes(results):
            frame = entry.table(results, **scope)
            if frame.empty:
                continue
            stem = stem_of(name, scope, names)
            note = f"{name}: {' · '.join(scope.values()) or 'the whole run'}"
            write_table(frame, entry.strings(frame), _paths(folder, stem), note, entry.paper)


def _paths(folder: ReportFolder, stem: str) -> Callable[[str], Path]:
    return lambda kind: folder.file(f"tables/{stem}.{kind}")


def write_table(
    frame: DataFrame,
    shown: DataFrame,
    file: Callable[[str], Path],
    note: str,
    paper: Sequence[str] = (),
) -> None:
    """Write a table as `csv` with full precision, as `md` and, with the columns of `paper`, `tex`.

    `file` gives the path of each kind; `shown` is the table as people read it.
    """
    _write_csv(frame, file("csv"))
    file("md").write_text(markdown(shown), encoding="utf-8")
    part = shown[[column for column in shown.columns if column in (paper or shown)]]
    file("tex").write_text(latex(part, note=note), encoding="utf-8")


def csv_text(frame: DataFrame) -> str:
    """Return CSV with full precision; an undefined number and none at all do not look the same."""
    exact = frame.astype(object).map(
        lambda value: (
            no_formula(value)
            if isinstance(value, str)
            else "NaN"
            if isinstance(value, float) and value != value
            else value
        )
    )
    return str(exact.to_csv(index=False))


def _write_csv(frame: DataFrame, file: Path) -> None:
    file.write_text(csv_text(frame), encoding="utf-8", newline="")
