"""TABLES: every table of the suite, one line each.

A table is a function of stored results alone, usable in a notebook::

    table(results, *, model=None, task=None, ...) -> DataFrame

with full precision; `model` and `task` narrow it. `reports.present` writes its numbers for people.
"""

from reports.registry import TableEntry

TABLES: dict[str, TableEntry] = {
    "leaderboard": TableEntry(
        "reports.tables.leaderboard:leaderboard",
        "methods by E_0 on test with all else that was measured",
        shown="reports.present:formatted",
        paper=(
            *("method", "E₀ test (B)", "95 % over prompts", "F test", "smallest k", "mass test"),
            "steers?",
        ),
    ),
    "paired": TableEntry(
        "reports.tables.paired:table",
        "every two methods on the same prompts: difference, interval, adjusted p, verdict",
        paper=("method a", "method b", "difference", "low", "high", "p holm", "verdict"),
    ),
    "ranks": TableEntry(
        "reports.tables.ranks:table",
        "mean ranks over models and tasks, and the critical difference",
        per="run",
    ),
    "agreement": TableEntry(
        "reports.tables.agreement:table",
        "how far every two methods agree: Kendall's tau of scores (which way) and of sizes (where)",
        paper=("method a", "method b", "tau", "low", "high", "size tau", "size low", "size high"),
    ),
    "agreement_pooled": TableEntry(
        "reports.tables.agreement:pooled",
        "the same, averaged over a model's tasks",
        per="model",
        paper=("method a", "method b", "tau", "low", "high", "size tau", "size low", "size high"),
    ),
    "prices": TableEntry(
        "reports.tables.curves:prices",
        "every cell at every price: E_0, the strength, and what was paid on each split",
    ),
    "price_curve": TableEntry(
        "reports.tables.curves:price_curve",
        "area under the price curve of every method: does it steer?",
    ),
    "localisation": TableEntry(
        "reports.tables.curves:localisation",
        "area under the curve over the k strongest points at one price: does it know where?",
    ),
    "retrained": TableEntry(
        "reports.tables.retrained:table",
        "scalars trained anew at the strongest points: do random and matched ones steer as well?",
    ),
    "sparsity": TableEntry(
        "reports.tables.curves:sparsity",
        "area under the sparsity curve of every method",
    ),
    "circuit": TableEntry(
        "reports.tables.circuit:table",
        "how much of a task the highest nodes of every method do: CPR, CMD, and against chance",
        shown="reports.tables.circuit:shown",
    ),
    "sanity": TableEntry(
        "reports.tables.checks:sanity",
        "maps of permuted weights and of other prompts' answers beside every method's own",
    ),
    "specificity": TableEntry(
        "reports.tables.checks:specificity",
        "what interventions do on other tasks and to a neutral text: change of LD, nats a token",
    ),
    "one_point": TableEntry(
        "reports.tables.one_point:table",
        "does |score| say how far a point's own scalar moves LD, beyond its site and layer?",
    ),
    "stability": TableEntry(
        "reports.tables.stability:table",
        "Kendall's tau between every two seeds of a method",
    ),
    "tasks": TableEntry(
        "reports.tables.tasks:table",
        "every task with an example, sizes, lengths, and how the unsteered model does",
        per="model",
        paper=("task", "split", "n prompts", "tokens", "E 0 unsteered", "LD", "mass"),
    ),
    "finding": TableEntry(
        "reports.tables.finding:table",
        "how methods find circuits that are known: AUROC, precision, what is wrong and missed",
        per="run",
    ),
    "finding_steering": TableEntry(
        "reports.tables.finding:steering",
        "does finding (AUROC, CPR) go with steering? rank correlations over methods",
        per="run",
    ),
    "missing": TableEntry(
        "reports.missing:table",
        "cells without a result and why: failed, damaged, planned and not computed",
        per="run",
    ),
}
