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

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.store.records import CellRecord
from bench.store.schema import strict_json
from reports import palette
from reports.load import Results
from reports.payload import blocks
from reports.present import missing, strings
from reports.sections import MOST_ROWS, Drawn, pictures, section_of
from reports.tables.change import Changes
from reports.text import number
from tasks.text import counted, visible

EARLY = "document.documentElement.className = 'js';"
PAGE = Path(__file__).parent / "templates" / "page"
SCRIPT = ("document", "numbers", "choice", "board", "maps", "sweep", "start")


def page(results: Results, drawn: Sequence[Drawn], changes: Changes | None = None) -> str:
    """Return index.html.

    `drawn`: the figures, in the order in which they are shown; `changes`: against another run.
    """
    shown, without_picture = pictures(drawn)
    rest = [one for one in drawn if not one.first]
    across = [one for one in rest if "task" not in one.scope]
    sections = [section_of(results, *pair, rest, shown) for pair in results.pairs()]
    data, without = blocks(results)
    left_out = [f"the {part} of {counted(count, 'method')}" for part, count in without.items()]
    left_out += [counted(without_picture, "figure")] if without_picture else []
    absent = missing(results)
    against = None
    if changes is not None:
        rows = strings(changes.changed)
        against = {
            **{"there": visible(changes.there), "counts": changes.counts},
            **{"columns": list(rows.columns), "more": max(0, len(rows) - MOST_ROWS)},
            "rows": rows.head(MOST_ROWS).to_numpy().tolist(),
        }
    parts = [(PAGE / f"{name}.js").read_text("utf-8") for name in SCRIPT]
    # in a function of its own it shares nothing with other scripts
    script = '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"
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
            missing=absent[:MOST_ROWS],
            more_missing=max(0, len(absent) - MOST_ROWS),
            n_missing=sum(one.counts for one in results.missing),
            left_out=left_out,
            seconds=number(sum(record.seconds for record in done), 0),
            provenance=_provenance(done),
            sections=sections,
            first=[shown[one.stem] for one in drawn if one.first],
            overall=[shown[one.stem] for one in across if one.svg],
            not_overall=[shown[one.stem] for one in across if not one.svg],
            blocks=data,
            changes=against,
            palette=palette.current(),
            early=EARLY,
            script=script,
            script_hashes=" ".join(map(_allowed, (EARLY, script))),
            config=json.dumps(strict_json(results.store.config), indent=2, ensure_ascii=False),
        )
    )


def environment() -> Environment:
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


def _allowed(script: str) -> str:
    """What lets one script run under the content security policy: the digest of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


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
