"""What the page says of one model and task (leaderboard, agreement, notes), and of figures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pandas import DataFrame

from bench.store.records import CellRecord
from reports.figures import FIGURES
from reports.load import Results, splits_of
from reports.present import formatted, split_name
from reports.registry import Scope
from reports.tables import agreement
from reports.tables.leaderboard import leaderboard
from reports.text import TIMES, interval, known, number
from tasks.text import counted, visible

ANSWER = "answer"
"""The figure that stands before any table."""
CLIP = 2.5
"""The small plots of E_0 end at this many times the unsteered E_0, whatever an outlier says."""
MOST_ROWS = 300
"""Rows of the page's tables of pairs, missing cells and changes; the files have all."""


EMBEDDED = 8_000_000
"""Bytes of embedded figures (in base64), the small ones of every task before large ones."""


@dataclass(frozen=True)
class Drawn:
    """One drawing of a figure.

    Attributes:
        name: of `FIGURES`.
        scope: which model and task it is of.
        stem: of its files' names.
        svg: its content; empty where there was nothing to draw.
        width: in inches.
        narrow: the same drawn for a telephone, where there is such.
        first: the matrix names it.
        missing: why there was nothing to draw.
    """

    name: str
    scope: Scope
    stem: str
    svg: bytes = b""
    width: float = 0.0
    first: bool = False
    missing: str = ""
    narrow: bytes = b""


def pictures(
    drawn: Sequence[Drawn], room: float = EMBEDDED
) -> tuple[dict[str, dict[str, Any]], int]:
    """Return by stem what the template says of a figure: its address, or why it is not here.

    With it how many are in their files alone, since the page has no room for them.
    """
    found, left_out = {}, 0
    for one in sorted(drawn, key=lambda one: len(one.svg)):
        where = " · ".join(map(visible, one.scope.values()))
        title = FIGURES[one.name].summary + (f" ({where})" if where else "")
        shown: dict[str, Any] = {"title": title, "stem": one.stem, "address": "", "narrow": ""}
        shown["missing"] = visible(one.missing)
        size = 4 * (len(one.svg) + len(one.narrow)) / 3
        if size > room:
            left_out += 1
            shown["missing"] = f"To keep this page small, in figures/{one.stem}.svg alone"
        elif one.svg:
            room -= size
            shown |= {"address": _address(one.svg), "width": round(one.width * 96)}
            shown["narrow"] = _address(one.narrow) if one.narrow else ""
        found[one.stem] = shown
    return found, left_out


def _address(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def section_of(
    results: Results,
    model: str,
    task: str,
    drawn: Sequence[Drawn],
    shown: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return what the template shows of a model and task; `shown` is what `pictures` returns."""
    board = leaderboard(results, model, task)
    records = results.of(model, task)
    own = [one for one in drawn if one.scope == {"model": model, "task": task}]
    pairs = agreement.table(results, model=model, task=task)
    answers = [one for one in own if one.name == ANSWER and one.svg]
    notes = [
        note for one in records for note in (*one.notes, *(one.grid.notes if one.grid else ()))
    ]
    return {
        "model": visible(model),
        "task": visible(task),
        "answers": [shown[one.stem] for one in answers],
        "table": _table(board),
        "agreement": [_pair(row) for row in pairs.head(MOST_ROWS).to_dict("records")],
        "more_agreement": max(0, len(pairs) - MOST_ROWS),
        "figures": [shown[one.stem] for one in own if one.svg and one not in answers],
        "not_drawn": [shown[one.stem] for one in own if not one.svg],
        "facts": _facts([record for record in records if record.status == "done"]),
        "notes": list(dict.fromkeys(map(visible, notes))),
    }


def _table(board: DataFrame) -> dict[str, Any]:
    frame = formatted(board).drop(columns="status", errors="ignore")
    raw: list[dict[str, Any]] = board.to_dict("records")
    found = [row["E_0_unsteered_test"] for row in raw if known(row.get("E_0_unsteered_test"))]
    unsteered = min(found, default=0.0)
    lows = [row[name] for row in raw for name in ("E_0_test", "E_0_test_low") if name in row]
    scale = max(min(unsteered, *filter(known, lows), 0.0), CLIP * unsteered) * 1.04

    def at(value: float) -> float:
        """Where a value lies in a small plot, 0 (left) to 100."""
        return round(min(100.0, max(0.0, 100 * (1 - value / scale))), 2)

    def plot(row: dict[str, Any]) -> dict[str, float] | None:
        value, low, high = (row.get(f"E_0_test{end}") for end in ("", "_low", "_high"))
        if not unsteered or not known(value):
            return None
        ends = (low, high) if known(low) and known(high) else (value, value)
        return {"at": at(value), "low": at(ends[0]), "high": at(ends[1])}

    lines = frame.to_dict("records")
    # the unsteered model leads, where anything was evaluated
    sources = [None] * (len(lines) - len(raw)) + raw
    rows = [
        {
            "cells": list(line.values()),
            "kind": line["kind"].split(" ")[0],
            "method": line["method"] if source else "",
            "status": source["status"] if source else "done",
            "plot": plot(source) if source else None,
        }
        for line, source in zip(lines, sources, strict=True)
    ]
    where = at(unsteered) if unsteered else None
    return {"columns": list(frame.columns), "rows": rows, "unsteered_at": where}


def _pair(row: dict[str, Any]) -> dict[str, str]:
    return {
        "methods": visible(f"{row['method_a']} / {row['method_b']}"),
        "tau": number(row["tau"]),
        "interval": interval(row["low"], row["high"]),
        "where": number(row["size_tau"]),
        "where_interval": interval(row["size_low"], row["size_high"]),
        "from": visible(str(row["interval_from"])),
        "points": number(row["n_points"], 0),
        "status": visible(str(row["status"])),
    }


def _facts(records: list[CellRecord]) -> dict[str, str]:
    """What was asked: numbers of prompts of all finished cells, all else of the first one."""
    asked = [record for record in records if record.grid and record.prompts]
    if not asked or asked[0].grid is None:
        return {}
    first, grid = asked[0], asked[0].grid
    facts = {
        "prompts": ", ".join(
            f"{split_name(split)} {_range(counts)}"
            for split in splits_of(records)
            if (counts := [len(one.prompts[split]) for one in asked if split in one.prompts])
        ),
        "points": f"{', '.join(grid.sites)} {TIMES} {grid.n_layers} layers {TIMES} "
        f"{counted(len(grid.positions), 'position')}, {len(grid.excluded)} left out",
    }
    if reasons := dict.fromkeys(reason for one in asked for reason in one.dropped):
        facts["dropped prompts"] = "; ".join(
            f"{reason}: {_range([one.dropped.get(reason, 0) for one in asked])}"
            for reason in reasons
        )
    for split in ("train", "test", "shifted"):
        if first.prompts.get(split):
            one = first.prompts[split][0]
            asked_for = f"{one.answer.strip()} (answer), {one.foil.strip()} (foil)"
            facts[f"{split} prompt"] = f"{one.clean} → {asked_for}"
    if first.prompts.get("train"):
        facts["corrupted"] = first.prompts["train"][0].corrupted
    return {key: visible(text) for key, text in facts.items()}


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high} (varies between cells)"
