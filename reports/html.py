"""The page: one self-contained file that opens without a network, every foreign string escaped.

Its tables are there without scripts. The script sorts and filters them and draws score maps and
sweeps from `reports.payload`; the content security policy lets no other script run.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from bench.records import CellRecord, PromptRecord, strict_json
from reports import palette
from reports.drawn import Drawn
from reports.figures import FIGURES
from reports.load import Results, splits_of
from reports.payload import blocks
from reports.present import UNSTEERED, failures, formatted, split_name, strings
from reports.tables import agreement
from reports.tables.change import Changes
from reports.tables.leaderboard import leaderboard
from reports.text import MISSING, TIMES, number, visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from pandas import DataFrame

EARLY = "document.documentElement.className = 'js';"
SCRIPT = ("document", "numbers", "choice", "board", "maps", "sweep", "start")
EMBEDDED = 5_000_000
"""Bytes of embedded figures; more of them are named with their files."""
MOST_ROWS = 300
"""Rows of the tables of changes, failures and pairs of methods; the files have all."""
CLIP = 2.5
"""The small plots of E_0 end at this many times the unsteered E_0, whatever an outlier says."""


def page(results: Results, drawn: Sequence[Drawn], changes: Changes | None = None) -> str:
    """Return index.html.

    `drawn`: the figures, in the order in which they are shown; `changes`: against another run.
    """
    pictures = _Pictures()
    first = [pictures.show(one) for one in drawn if one.first]
    rest = [one for one in drawn if not one.first]
    overall = [pictures.show(one) for one in rest if "task" not in one.scope and one.svg]
    sections = [_section(results, *pair, rest, pictures) for pair in results.pairs()]
    data, left_out = blocks(results)
    failed = list(failures(results))
    script = _script()
    done = [record for record in results.records if record.status == "done"]
    return str(
        environment()
        .get_template("report.html.jinja")
        .render(
            name=visible(results.store.directory.resolve().name),
            suite_version=results.store.run.get("suite_version"),
            models=sorted({record.model for record in results.records}),
            tasks=sorted({record.task for record in results.records}),
            n_methods=len({record.method for record in results.records if not record.control}),
            n_done=len(done),
            failures=failed[:MOST_ROWS],
            more_failures=max(0, len(failed) - MOST_ROWS),
            left_out=_left_out(left_out, pictures.left_out),
            seconds=number(sum(_seconds(record) for record in done), 0),
            provenance=_provenance(done),
            sections=sections,
            first=first,
            overall=overall,
            blocks=data,
            changes=_changes(changes),
            palette=palette.current(),
            early=EARLY,
            script=script,
            script_hashes=" ".join(map(_allowed, (EARLY, script))),
            config=json.dumps(strict_json(results.store.config), indent=2, ensure_ascii=False),
        )
    )


def environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["before_range"] = lambda text: text.partition(" [")[0]
    environment.filters["range"] = lambda text: "".join(text.partition(" [")[1:]).strip()
    return environment


def _changes(changes: Changes | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    shown = strings(changes.changed)
    return {
        "there": visible(changes.there),
        "counts": changes.counts,
        "columns": list(shown.columns),
        "rows": shown.head(MOST_ROWS).to_numpy().tolist(),
        "more": max(0, len(shown) - MOST_ROWS),
    }


def _script() -> str:
    """The parts of the page's script as one, which shares nothing with other scripts."""
    folder = Path(__file__).parent / "templates" / "page"
    parts = "\n".join((folder / f"{name}.js").read_text("utf-8") for name in SCRIPT)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _allowed(script: str) -> str:
    """What lets one script run under the content security policy: the digest of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _left_out(parts: dict[str, int], figures: int) -> list[str]:
    said = [f"the {part} of {count} methods" for part, count in parts.items()]
    return [*said, f"{figures} figures"] if figures else said


class _Pictures:
    """Drawn figures as the page shows them, embedded while there is room."""

    def __init__(self) -> None:
        self.left = EMBEDDED
        self.left_out = 0

    def show(self, one: Drawn) -> dict[str, Any]:
        """Return what the template says of a figure: its address, or why it is not here."""
        where = " · ".join(map(visible, one.scope.values()))
        title = FIGURES[one.name].summary + (f" ({where})" if where else "")
        missing = visible(one.missing)
        shown = {"title": title, "stem": one.stem, "missing": missing, "address": ""}
        if not one.svg:
            return shown
        content = base64.b64encode(one.svg).decode()
        if len(content) > self.left:
            self.left_out += 1
            missing = f"Not on this page, to keep it small: figures/{one.stem}.svg"
            return shown | {"missing": missing}
        self.left -= len(content)
        address = f"data:image/svg+xml;base64,{content}"
        return shown | {"address": address, "width": round(one.width * 96)}


def _section(
    results: Results, model: str, task: str, drawn: Sequence[Drawn], pictures: _Pictures
) -> dict[str, Any]:
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


def _table(board: "DataFrame") -> dict[str, Any]:
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
    """What was asked, of the first finished cell; every method sees the same prompts."""
    first = next((record for record in records if record.grid and record.prompts), None)
    if first is None or first.grid is None:
        return {}
    grid = first.grid
    facts = {
        "prompts": ", ".join(
            f"{split_name(split)} {len(first.prompts[split])}"
            for split in splits_of(records)
            if split in first.prompts
        ),
        "points": f"{', '.join(grid.sites)} {TIMES} {grid.n_layers} layers {TIMES} "
        f"{len(grid.positions)} positions, {len(grid.excluded)} left out",
    }
    if first.dropped:
        dropped = (f"{reason}: {count}" for reason, count in first.dropped.items())
        facts["dropped prompts"] = "; ".join(dropped)
    for split in ("train", "test", "shifted"):
        if first.prompts.get(split):
            facts[f"{split} prompt"] = _quoted(first.prompts[split][0])
    if first.prompts.get("train"):
        facts["corrupted"] = first.prompts["train"][0].corrupted
    return {key: visible(text) for key, text in facts.items()}


def _quoted(prompt: PromptRecord) -> str:
    return f"{prompt.clean} → {prompt.answer.strip()} (answer), {prompt.foil.strip()} (foil)"


def _notes(records: list[CellRecord]) -> list[str]:
    found: dict[str, None] = {}
    for record in records:
        for note in [*record.notes, *(record.grid.notes if record.grid else [])]:
            found[visible(note)] = None
    return list(found)


def _seconds(record: CellRecord) -> float:
    return float(sum((record.provenance.get("seconds") or {}).values()))


def _provenance(records: list[CellRecord]) -> list[tuple[str, str]]:
    """Each fact of the cells' provenance that is shared by cells, with how many have it."""
    counts: Counter[tuple[str, str]] = Counter()
    for record in records:
        for key, value in record.provenance.items():
            if key in ("seconds", "passes", "peak_memory_bytes", "started"):
                continue
            items = value.items() if isinstance(value, dict) else [(None, value)]
            for inner, text in items:
                name = key if inner is None else f"{key} · {inner}"
                counts[visible(name), visible(json.dumps(text).strip('"'))] += 1
    peaks = [record.provenance.get("peak_memory_bytes") or 0 for record in records]
    lines = [
        (key, value if count == len(records) else f"{value} ({count} of {len(records)} cells)")
        for (key, value), count in sorted(counts.items())
    ]
    return [*lines, ("peak memory", f"{max(peaks) / 1024**3:.1f} GiB")] if any(peaks) else lines
