"""TABLES: every table of the suite, one line each.

A table is a function of stored results alone, usable in a notebook:

    table(results, *, model=None, task=None, ...) -> DataFrame

with full precision; `model` and `task` narrow it. `reports.present` writes its numbers for people.
"""

from reports.registry import TableEntry

TABLES: dict[str, TableEntry] = {
    "leaderboard": TableEntry(
        "reports.tables.leaderboard:leaderboard",
        "methods by E_0 on test with all else that was measured",
    ),
    "paired": TableEntry(
        "reports.tables.paired:table",
        "every two methods on the same prompts: difference, interval, adjusted p, verdict",
    ),
    "ranks": TableEntry(
        "reports.tables.ranks:table",
        "mean ranks over models and tasks, and the critical difference",
        per="run",
    ),
    "agreement": TableEntry(
        "reports.tables.agreement:table",
        "Kendall's tau between every two methods, with its interval",
    ),
    "failures": TableEntry(
        "reports.tables.failures:table",
        "cells without a result and why",
        per="run",
    ),
}
