"""FIGURES: every figure of the suite, one line each.

A figure is a function of stored results alone, usable in a notebook::

    figure(results, *, model=None, task=None, width=None, ...) -> matplotlib Figure

`model` and `task` may be left out where the run has one only. `width` is in inches (None: as wide
as the figure asks for; `reports.style.WIDTHS` has a journal's column and page). Where the results
hold nothing to draw it raises UserInputError that says what is missing. Beside it stands (of a
figure that is not called `figure` with its name in front, as `price_data`)::

    data(results, *, model=None, task=None, ...) -> DataFrame

the numbers that it draws, which become the CSV file of the figure.
"""

from reports.registry import FigureEntry

FIGURES: dict[str, FigureEntry] = {
    "answer": FigureEntry(
        "reports.figures.answer:figure",
        "does it steer, does it know where? every method's two shares of E_0 side by side",
    ),
    "comparison": FigureEntry(
        "reports.figures.comparison:figure",
        "scores over layers and tokens beside beta sweeps, one row a method",
    ),
    "leaderboard": FigureEntry(
        "reports.figures.leaderboard:figure",
        "E_0 of every method with 95 % intervals over prompts and seeds, and what tests say",
    ),
    "critical": FigureEntry(
        "reports.figures.critical:figure",
        "critical-difference diagram: mean ranks over models and tasks",
        per="run",
    ),
    "agreement": FigureEntry(
        "reports.figures.agreement:figure",
        "how far every two methods agree, on which way and on where, similar ones side by side",
    ),
    "agreement_pooled": FigureEntry(
        "reports.figures.agreement:pooled_figure",
        "how far every two methods agree, averaged over a model's tasks",
        per="model",
    ),
    "price": FigureEntry(
        "reports.figures.curves:price",
        "does it steer? E_0 against the price paid on test, with the floor of the task",
    ),
    "localisation": FigureEntry(
        "reports.figures.curves:localisation",
        "does it know where? E_0 of the k strongest points alone, all at one price",
    ),
    "retrained": FigureEntry(
        "reports.figures.retrained:figure",
        "scalars trained anew at the strongest points, and at random and matched ones",
    ),
    "sparsity": FigureEntry(
        "reports.figures.curves:sparsity",
        "E_0 on test when only the k strongest points are left, with the area under each curve",
    ),
    "circuit": FigureEntry(
        "reports.figures.circuit:figure",
        "circuit faithfulness over the share of nodes kept, and of all other nodes",
    ),
    "finding": FigureEntry(
        "reports.figures.finding:figure",
        "does finding go with steering? AUROC for known circuits, or CPR, against E_0 at one price",
        per="run",
    ),
    "maps": FigureEntry(
        "reports.figures.maps:figure",
        "score maps of every method side by side: layers x tokens, or layers x heads",
    ),
    "stability": FigureEntry(
        "reports.figures.stability:figure",
        "Kendall's tau between every two seeds of a method",
    ),
    "overlap": FigureEntry(
        "reports.figures.overlap:figure",
        "share of the k strongest points that methods have in common with one of them",
    ),
    "scatter": FigureEntry(
        "reports.figures.scatter:figure",
        "the scores of two methods, point by point",
    ),
    "table1": FigureEntry(
        "reports.figures.tasks:figure",
        "how the unsteered model does on every task",
        per="model",
    ),
    "fig2": FigureEntry(
        "reports.figures.fronts:figure",
        "Pareto fronts over a grid: effectiveness against faithfulness and minimality",
        more=(("shares", "reports.figures.fronts:shares"),),
    ),
    "fig3": FigureEntry(
        "reports.figures.scalars:figure",
        "activation scalars of one prompt over layers and tokens, and its beta sweep",
        more=(("sweep", "reports.figures.scalars:sweep"),),
    ),
    "fig4": FigureEntry(
        "reports.figures.vectors:figure",
        "steering vectors over seeds: change of norm, distance from the start, direction",
        more=(("maps", "reports.figures.vectors:maps"),),
    ),
    "fig5": FigureEntry(
        "reports.figures.dynamic:figure",
        "dynamic scalars on the tokens of prompts of several lengths",
        more=(("effectiveness", "reports.figures.dynamic:effectiveness"),),
    ),
    "fig6": FigureEntry(
        "reports.figures.transfer:figure",
        "dynamic scalars: trained on each task, tested on each",
        per="model",
    ),
    "table2": FigureEntry(
        "reports.figures.generalisation:figure",
        "E_0 and F on train prompts, other entities and another template, over refits",
    ),
    "fig7": FigureEntry(
        "reports.figures.heads:figure",
        "heads x layers at one position, a map a method, and how far they agree",
        more=(("maps", "reports.figures.heads:scores"),),
    ),
    "sensitivity": FigureEntry(
        "reports.figures.sensitivity:figure",
        "what each hyperparameter does to a trained method, the others as usual",
    ),
    "corruption": FigureEntry(
        "reports.figures.corruption:figure",
        "patching under every corruption and direction: steering and agreement",
        more=(("tau", "reports.tables.agreement:table"),),
    ),
}
