"""The leaderboards in a terminal: the strings of `reports.present`, as far as there is room."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from reports.load import Results
from reports.present import AREA, CHECKS, COUNT, formatted, missing
from reports.tables.leaderboard import leaderboard
from reports.text import number, visible

WIDE = 110
"""Characters from which on a terminal gets all columns."""
WIDE_WITH_CHECKS = 150
"""The same of columns that stand there on request alone."""


def _in_terminal(name: str, width: int) -> bool:
    if name in ("method", COUNT, AREA, "β*") or (name.startswith("E₀") and "β=1" not in name):
        return True
    if name in CHECKS.values():
        return width >= WIDE_WITH_CHECKS
    return name in ("kind", "smallest k") or name.startswith("F ") if width >= WIDE else False


def _brief(text: str) -> str:
    return text.split(" [")[0]


def terminal_tables(results: Results, width: int = 120) -> Iterable[Table]:
    """Yield a rich table per model and task, and one of failed cells where there are any.

    `width` is that of the terminal, in characters: a narrow one gets fewer columns, never cut
    numbers. Ranges over draws stand behind the first E₀ only; all others are in the files.
    """
    for model, task in results.pairs():
        frame = formatted(leaderboard(results, model, task))
        names = [name for name in frame.columns if _in_terminal(name, width)]
        main = next((name for name in names if name.startswith("E₀")), "")
        table = Table(title=Text(visible(f"{model} · {task}")), title_justify="left")
        table.box, table.padding = SIMPLE_HEAD, (0, 1, 0, 0)
        for name in names:
            folds = name in ("method", COUNT) or (name == main and width < WIDE)
            left = name in ("method", "kind")
            table.add_column(
                Text(name if name == COUNT else name.replace(" ", "\n")),
                justify="left" if left else "right",
                no_wrap=not folds,
                overflow="fold",
            )
        for row in frame.to_dict("records"):
            dim = "dim" if row["kind"].startswith(("control", "reference")) else ""
            cells = [row[name] if name in ("method", main) else _brief(row[name]) for name in names]
            table.add_row(*map(Text, cells), style=dim)
        yield table
    lines = missing(results)
    if lines:
        count = sum(one.counts for one in results.missing)
        title = f"{number(count, 0)} {'cell' if count == 1 else 'cells'} without a result"
        table = Table(title=Text(title), title_justify="left")
        shown = ("status", "model", "task", "method", "n_cells", "reason")
        for name in shown:
            table.add_column(name.removeprefix("n_"), overflow="fold")
        for line in lines:
            table.add_row(*(Text(line[name]) for name in shown))
        yield table
