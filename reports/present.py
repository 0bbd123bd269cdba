"""Tables as people read them: the same strings on the page, in Markdown and in the terminal."""

from typing import Any

import numpy as np
from pandas import DataFrame

from reports.load import Results
from reports.missing import grouped
from reports.text import (
    MINUS,
    MISSING,
    NOT_MEANINGFUL,
    TIMES,
    interval,
    known,
    number,
    significant,
    spread,
)
from tasks.text import visible

COUNT = "|θ| ≥ 0.01"
STEERS, KNOWS_WHERE = "steers?", "knows where?"
"""What the tests say to the two questions: all points acting, and the few strongest alone."""
AREA = "few points"
CHECKS = {"map_changes": "map changes", "kl_elsewhere": "KL elsewhere", "kl_neutral": "KL neutral"}
"""Columns of the leaderboard that stand there where they were measured."""
OVER_PROMPTS = "95 % over prompts"
OVER_SEEDS = "95 % over seeds"
UNSTEERED = "(unsteered model)"
WHOLE = ("k", "seed", "seed_a", "seed_b", "draw", "prompts_seed", "layer", "position", "dropped")
"""Columns of whole numbers, beside those that begin with n_."""
SPLIT_LETTERS = {"train": "A", "test": "B", "shifted": "C"}


def split_name(split: str) -> str:
    """Return a split's name with its letter in the paper's Table 2: `test (B)`."""
    return f"{split} ({SPLIT_LETTERS[split]})" if split in SPLIT_LETTERS else split


def formatted(board: DataFrame) -> DataFrame:
    """Return the leaderboard of ONE model and task as strings, led by the unsteered model's row.

    Columns: method, kind, steers?, knows where?, `E₀ <split>` (test first, with its 95 % intervals
    over prompts and over seeds or draws), F, localisation, counts, β*, flips, mass, E₀ at β* and at
    β = 1 (the paper's), what was measured of `CHECKS`, cost and status. Where a price was chosen E₀
    and F are at that price.
    Raises ValueError for a board of several models or tasks.
    """
    rows: list[dict[str, Any]] = board.to_dict("records")
    if len({(row["model"], row["task"]) for row in rows}) > 1:
        raise ValueError("format the leaderboard of one model and task at a time")
    columns = [name.removeprefix("F_") for name in board.columns if name.startswith("F_")]
    splits = [name for name in columns if not name.endswith(("_low", "_high"))]
    splits.sort(key=lambda split: split != "test")
    lines = [_unsteered(rows, splits)] if splits else []
    lines += [_line(row, splits) for row in rows]
    frame = DataFrame(lines)
    for name, shown in CHECKS.items():
        values = [None] * (len(lines) - len(rows)) + [row.get(name) for row in rows]
        if any(isinstance(value, str) or known(value) for value in values):
            texts = [value if isinstance(value, str) else number(value) for value in values]
            frame.insert(frame.columns.get_loc("seconds"), shown, texts)
    return frame


def _line(row: dict[str, Any], splits: list[str]) -> dict[str, str]:
    line = {"method": visible(row["method"]), "kind": kind(row), STEERS: verdict(row)}
    line[KNOWS_WHERE] = row.get("localises") or MISSING
    main = splits[0] if splits else "test"
    for split in splits:
        line[f"E₀ {split_name(split)}"] = _spread(row, f"E_0_{split}")
        if split == main:
            line[OVER_PROMPTS] = _interval(row, f"E_0_{split}_prompts")
            line[OVER_SEEDS] = _interval(row, f"E_0_{split}_seeds")
    line[f"F {main}"] = _spread(row, f"F_{main}")
    area, ends = row.get("localisation"), _interval(row, "localisation_prompts")
    line[AREA] = MISSING if area is None else f"{number(area, 2)} {ends}"
    line[COUNT] = MISSING
    if row["n_cells"]:
        meaningful = row["minimality_meaningful"]
        line[COUNT] = _spread(row, "minimality_count", 0) if meaningful else NOT_MEANINGFUL
    line["of parameters"] = number(row["n_parameters"], 0)
    line["smallest k"] = _spread(row, "smallest_k", 0)
    line["β*"] = significant(row["beta_star"])
    if row["trained"] and row["n_cells"]:
        line["β*"] = "trained"
    elif row["beta_star_low"] is not None:  # a mean of both signs would say nothing
        low, high = (significant(row[f"beta_star_{end}"]) for end in ("low", "high"))
        line["β*"] = f"varies [{low}, {high}]"
    line[f"flips +/{MINUS} {main}"] = (
        f"{number(row.get(f'flips_plus_{main}'), 2)}/{number(row.get(f'flips_minus_{main}'), 2)}"
        if row["n_cells"]
        else MISSING
    )
    line[f"mass {main}"] = number(row.get(f"mass_{main}"), 2)
    line[f"E₀ {main} at β*"] = _spread(row, f"E_0_{main}_at_star")
    line[f"E₀ {main} at β=1"] = _spread(row, f"E_0_{main}_at_one")
    line["seconds"] = number(row["seconds"], 1)
    line["forward rows"] = number(row["forward_rows"], 0)
    line["status"] = visible(
        row["status"] if not row["error"] else f"{row['status']}: {row['error']}"
    )
    return line


def kind(row: dict[str, Any]) -> str:
    """Return what a row is: `trained`, `untrained`, or `control x 5` (a mean over draws)."""
    what = "control" if row["control"] else "trained" if row["trained"] else "untrained"
    return what if row["n_cells"] < 2 else f"{what} {TIMES} {row['n_cells']}"


def verdict(row: dict[str, Any]) -> str:
    """Return what the tests say of a method (see `reports.tables.verdicts`), each thing once."""
    said = dict.fromkeys(row.get(name) for name in ("against_best", "against_controls"))
    return "; ".join(text for text in said if text) or MISSING


def _interval(row: dict[str, Any], name: str) -> str:
    return interval(row.get(f"{name}_low"), row.get(f"{name}_high"))


def _spread(row: dict[str, Any], name: str, digits: int = 3) -> str:
    return spread(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"), digits)


def _unsteered(rows: list[dict[str, Any]], splits: list[str]) -> dict[str, str]:
    """The reference that every E_0 is judged by; a range where the methods disagree on it."""

    def over_rows(name: str, digits: int) -> str:
        values = list(filter(known, (row[name] for row in rows)))
        if not values:
            return MISSING
        texts = sorted({number(value, digits) for value in values})
        mean, low, high = sum(values) / len(values), min(values), max(values)
        return texts[0] if len(texts) == 1 else spread(mean, low, high, digits)

    line = dict.fromkeys(_line(rows[0], splits), MISSING)
    line |= {"method": UNSTEERED, "kind": "reference"}
    for split in splits:
        line[f"E₀ {split_name(split)}"] = over_rows(f"E_0_unsteered_{split}", 3)
    line[f"mass {splits[0]}"] = over_rows(f"mass_unsteered_{splits[0]}", 2)
    return line


def strings(frame: DataFrame) -> DataFrame:
    """Return any table as strings: counts whole, p with four decimals, a beta with three
    significant digits, other numbers with three decimals.
    """
    shown = {
        str(name).replace("_", " "): [_string(str(name), value) for value in frame[name]]
        for name in frame.columns
    }
    return DataFrame(shown)


def _string(name: str, value: object) -> str:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if name.startswith("n_") or name in WHOLE:
        return number(value, 0)
    if name.startswith("beta_"):
        return significant(value)
    return number(value, 4 if name in ("p", "p_holm", "friedman_p") else 3)


def missing(results: Results) -> list[dict[str, str]]:
    """Return what the run has no result for, a line for cells alike (`reports.missing`)."""
    return [
        {name: MISSING if value is None else visible(str(value)) for name, value in row.items()}
        for row in grouped(results.missing)
    ]
