"""A page of a large run: how large, how soon it answers, what it leaves out."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.store.records import CellRecord
from bench.store.results import RunStore
from reports import html
from reports.load import Results, load
from reports.payload import blocks
from reports.sections import Drawn
from tests.reports.cells import TRAINED, UNTRAINED, make_cell
from tests.reports.page.steps import choose, shown, wait_for

LARGEST, SLOWEST = 20_000_000, 3.0
"""What the page of a run of 2,000 cells may weigh (bytes) and take to be of use (seconds)."""
TASKS = 20


@pytest.fixture
def large_run(small_store: RunStore) -> Results:
    """2,000 cells: 20 tasks of the same ten methods under five seeds, and as many controls."""
    methods = [*UNTRAINED, *TRAINED, "dla[form=strict]", "mine"]
    controls = ["random", *(f"shuffled[of={method}]" for method in methods[:9])]
    for number in range(5):
        for method in methods:
            small_store.write(*make_cell("ccc", method, seed=number))
        for control in controls:
            small_store.write(*make_cell("ccc", control, draw=number))
    one = load(small_store.directory)
    assert len(one.records) == 2000 / TASKS
    records: list[CellRecord] = []
    known: dict[str, dict[str, Any]] = {"_small": {}, "_names": {}}
    for record in one.records:
        one.small_tensors(record.id)
        for place in range(TASKS):
            changes = {"id": f"c{place}-{record.id}", "task": f"task{place}"}
            records.append(record.model_copy(update=changes))
            for kept, of in known.items():
                of[changes["id"]] = getattr(one, kept)[record.id]
    return replace(one, records=tuple(records), known={}, **known)


def drawn_for_all(index: Path) -> list[Drawn]:
    """Pictures of every task, half of them as large as they get: their cells are the same."""
    small = (index.parent / "figures" / "leaderboard-smollm2-135m-ccc.svg").read_bytes()
    large = small.replace(b"</svg>", b"<!--" + b" " * 400_000 + b"--></svg>")
    return [
        Drawn(name, {"model": "smollm2-135m", "task": f"task{place}"}, f"{name}-{place}", svg, 6.75)
        for place in range(TASKS)
        for name, svg in (("leaderboard", small), ("maps", large))
    ]


def test_a_run_of_2000_cells_has_a_small_page_that_answers_at_once(
    browser: Any, large_run: Results, index: Path, tmp_path: Path
) -> None:
    file = tmp_path / "index.html"
    file.write_text(html.page(large_run, drawn_for_all(index)), "utf-8")
    assert file.stat().st_size < LARGEST
    browser.get("about:blank")
    start = time.perf_counter()
    browser.get(f"{file.as_uri()}#task=task7&method=dyn_scalar")
    wait_for(browser, "document.readyState === 'complete'")
    assert len(browser.find_elements("css selector", "#maps svg")) == 2
    assert browser.find_element("id", "sweep-box").is_displayed()
    assert browser.find_element("id", "task").get_attribute("value") == "task7"
    assert time.perf_counter() - start < SLOWEST
    start = time.perf_counter()
    choose(browser, task="task19")
    assert shown(browser).get_attribute("data-task") == "task19"
    assert time.perf_counter() - start < SLOWEST
    said = browser.find_element("id", "left-out").text
    pictures = browser.find_elements("css selector", "figure.drawn img")
    assert TASKS <= len(pictures) < 2 * TASKS
    assert f"{2 * TASKS - len(pictures)} figures" in said
    assert browser.get_log("browser") == []


def test_over_the_budget_controls_give_way_first_and_the_page_says_so(results: Results) -> None:
    texts, nothing = blocks(results)
    assert nothing == {}
    everything = [json.loads(text) for text in texts]
    arrays = ("maps", "sweeps", "stored")
    controls = sum(
        len(json.dumps(entry.get(name), separators=(",", ":")))
        for block in everything
        for entry in block["methods"]
        for name in arrays
        if entry["control"]
    )
    texts, left_out = blocks(results, sum(len(text.encode()) for text in texts) - controls + 500)
    entries = [entry for text in texts for entry in json.loads(text)["methods"]]
    for entry in entries:
        there = [name in entry for name in arrays]
        assert not any(there) if entry["control"] else all(there) or "missing" in entry
        assert bool(entry.get("left_out")) is entry["control"]
    assert left_out == {"score maps": 4, "sweeps": 4, "strengths of the evaluation": 4}


def test_within_the_budget_the_best_methods_keep_their_maps(results: Results) -> None:
    texts, _ = blocks(results)
    texts, left_out = blocks(results, sum(len(text.encode()) for text in texts) // 2)
    assert left_out["strengths of the evaluation"] > left_out["score maps"] > 0
    for text in texts:
        methods = [one for one in json.loads(text)["methods"] if not one["control"]]
        kept = ["maps" in one for one in methods if "missing" not in one]
        assert kept == sorted(kept, reverse=True)
        assert kept[0]
