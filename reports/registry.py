"""What a line of the tables FIGURES and TABLES says, and how what it names is called."""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from tasks.registry import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from reports.load import Results

Per = Literal["task", "model", "run"]
Scope = dict[str, str]
"""What one drawing is of: {"model": ..., "task": ...}, {"model": ...} or {}."""


@dataclass(frozen=True)
class ReportEntry(Entry):
    """One line of a table: where a function lives, what it makes, and how often a report calls it.

    Attributes:
        per: "task": once for every model and task; "model": once a model, over its tasks; "run":
            once, over everything.
    """

    per: Per = "task"

    def scopes(self, results: "Results") -> list[Scope]:
        """Return the keyword arguments of every call that a whole report makes."""
        if self.per == "run":
            return [{}]
        if self.per == "model":
            return [{"model": model} for model in dict.fromkeys(m for m, _ in results.pairs())]
        return [{"model": model, "task": task} for model, task in results.pairs()]


@dataclass(frozen=True)
class TableEntry(ReportEntry):
    """A table: `table(results, *, model=None, task=None, ...) -> DataFrame`.

    Attributes:
        shown: "module:function" that writes its numbers for people, as a frame of strings.
        paper: the columns (as shown) that its LaTeX version has; all if empty.
    """

    shown: str = "reports.present:strings"
    paper: tuple[str, ...] = ()

    def table(self, results: "Results", **options: Any) -> "DataFrame":
        """Return the table."""
        made: DataFrame = resolve_name(self.target)(results, **options)
        return made

    def strings(self, frame: "DataFrame") -> "DataFrame":
        """Return a table as people read it: the same strings in every format."""
        made: DataFrame = resolve_name(self.shown)(frame)
        return made


@dataclass(frozen=True)
class FigureEntry(ReportEntry):
    """A figure (see `reports.figures`).

    Attributes:
        more: (name, "module:function") of what else it draws, each a file `<stem>-<name>.csv`.
    """

    more: tuple[tuple[str, str], ...] = ()

    def figure(self, results: "Results", **options: Any) -> "Figure":
        """Return the drawn figure; raises UserInputError where there is nothing to draw."""
        drawn: Figure = resolve_name(self.target)(results, **options)
        return drawn

    def numbers(self, results: "Results", **options: Any) -> "DataFrame":
        """Return the numbers behind the figure."""
        module, _, name = self.target.partition(":")
        own = name.removesuffix("figure").removesuffix("_")
        made: DataFrame = resolve_name(f"{module}:{own and f'{own}_'}data")(results, **options)
        return made

    def further(self, results: "Results", **options: Any) -> "dict[str, DataFrame]":
        """Return by name the numbers of `more`."""
        return {name: resolve_name(target)(results, **options) for name, target in self.more}
