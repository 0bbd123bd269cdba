"""FIGURES: every figure of the suite, one line each.

A figure is a function of stored results alone, usable in a notebook:

    figure(results, *, model=None, task=None, width=None, ...) -> matplotlib Figure

`model` and `task` may be left out where the run has one only. `width` is in inches (None: as wide
as the figure asks for; `reports.style.WIDTHS` has a journal's column and page). Where the results
hold nothing to draw it raises UserInputError that says what is missing. Beside it stands

    data(results, *, model=None, task=None, ...) -> DataFrame

the numbers that it draws, which become the CSV file of the figure.
"""

from reports.registry import FigureEntry

FIGURES: dict[str, FigureEntry] = {
    "comparison": FigureEntry(
        "reports.figures.comparison:figure",
        "scores over layers and tokens beside beta sweeps, one row a method",
    ),
    "agreement": FigureEntry(
        "reports.figures.agreement:figure",
        "Kendall's tau between every two methods, with its interval",
    ),
}
