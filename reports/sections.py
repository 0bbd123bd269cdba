"""What the page says of one model and task: its leaderboard, figures, agreement and notes."""

from collections.abc import Sequence
from typing import Any, TypeGuard

from pandas import DataFrame

from bench.store.records import CellRecord, PromptRecord
from reports.drawing import Drawn
from reports.load import Results, splits_of
from reports.pictures import Pictures
from reports.present import UNSTEERED, formatted, split_name
from reports.tables import agreement
from reports.tables.leaderboard import leaderboard
from reports.text import MISSING, TIMES, number, visible

CLIP = 2.5
"""The small plots of E_0 end at this many times the unsteered E_0, whatever an outlier says."""
MOST_ROWS = 300
"""Rows of the page's tables of pairs, missing cells and changes; the files have all."""


def section_of(
    results: Results, model: str, task: str, drawn: Sequence[Drawn], pictures: Pictures
) -> dict[str, Any]:
    """Return what the template shows of a model and task."""
    board = leaderboard(results, model, task)
    records = results.of(model, task)
    own = [one for one in drawn if one.scope == {"model": model, "task": task}]
    pairs = agreement.table(results, model=model, task=task)
    return {
        "model": visible(model),
        "task": visible(task),
        "table": _table(board),
        "agreement": [_pair(row) for row in pairs.head(MOST_ROWS).to_dict("records")],
        "more_agreement": max(0, len(pairs) - MOST_ROWS),
        "figures": [pictures.show(one) for one in own if one.svg],
        "not_drawn": [pictures.show(one) for one in own if not one.svg],
        "facts": _facts([record for record in records if record.status == "done"]),
        "notes": _notes(records),
    }


def _table(board: DataFrame) -> dict[str, Any]:
    frame = formatted(board).drop(columns="status", errors="ignore")
    raw = [{str(key): value for key, value in row.items()} for row in board.to_dict("records")]
    scale = _scale(raw)
    rows = []
    lines = frame.to_dict("records")
    offset = len(lines) - len(raw)  # the unsteered model leads, where anything was evaluated
    for place, line in enumerate(lines):
        source = raw[place - offset] if place >= offset else None
        rows.append(
            {
                "cells": list(line.values()),
                "kind": line["kind"].split(" ")[0],
                "method": line["method"] if source else "",
                "status": source["status"] if source else "done",
                "plot": _plot(source, scale) if source and scale else None,
                "reference": line["method"] == UNSTEERED,
            }
        )
    return {"columns": list(frame.columns), "rows": rows, "unsteered_at": _unsteered_at(raw, scale)}


def _known(value: object) -> TypeGuard[float]:
    return isinstance(value, float) and value == value


def _unsteered(raw: list[dict[str, Any]]) -> float | None:
    values = [row["E_0_unsteered_test"] for row in raw if _known(row.get("E_0_unsteered_test"))]
    return min(values) if values else None


def _scale(raw: list[dict[str, Any]]) -> float | None:
    """The E_0 at the left end of the small plots; the right end is 0."""
    unsteered = _unsteered(raw)
    if not unsteered:
        return None
    lows: list[float] = [
        row[name] for row in raw for name in ("E_0_test", "E_0_test_low") if _known(row[name])
    ]
    return max(min(unsteered, *lows), CLIP * unsteered) * 1.04


def _at(value: float, scale: float) -> float:
    """Where a value lies in a small plot, 0 (left) to 100."""
    return round(min(100.0, max(0.0, 100 * (1 - value / scale))), 2)


def _unsteered_at(raw: list[dict[str, Any]], scale: float | None) -> float | None:
    unsteered = _unsteered(raw)
    return _at(unsteered, scale) if scale and unsteered else None


def _plot(row: dict[str, Any], scale: float) -> dict[str, float] | None:
    value, low, high = (row.get(f"E_0_test{end}") for end in ("", "_low", "_high"))
    if not _known(value):
        return None
    ends = (low, high) if _known(low) and _known(high) else (value, value)
    return {"at": _at(value, scale), "low": _at(ends[0], scale), "high": _at(ends[1], scale)}


def _pair(row: dict[str, Any]) -> dict[str, str]:
    interval = f"[{number(row['low'])}, {number(row['high'])}]" if _known(row["low"]) else MISSING
    return {
        "methods": visible(f"{row['method_a']} / {row['method_b']}"),
        "tau": number(row["tau"]),
        "interval": interval,
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
        f"{len(grid.positions)} positions, {len(grid.excluded)} left out",
    }
    if reasons := dict.fromkeys(reason for one in asked for reason in one.dropped):
        facts["dropped prompts"] = "; ".join(
            f"{reason}: {_range([one.dropped.get(reason, 0) for one in asked])}"
            for reason in reasons
        )
    for split in ("train", "test", "shifted"):
        if first.prompts.get(split):
            facts[f"{split} prompt"] = _quoted(first.prompts[split][0])
    if first.prompts.get("train"):
        facts["corrupted"] = first.prompts["train"][0].corrupted
    return {key: visible(text) for key, text in facts.items()}


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high} (varies between cells)"


def _quoted(prompt: PromptRecord) -> str:
    return f"{prompt.clean} → {prompt.answer.strip()} (answer), {prompt.foil.strip()} (foil)"


def _notes(records: list[CellRecord]) -> list[str]:
    found: dict[str, None] = {}
    for record in records:
        for note in [*record.notes, *(record.grid.notes if record.grid else [])]:
            found[visible(note)] = None
    return list(found)
