"""A page of a large run: how large, how soon it answers, what it leaves out."""

import json
import time
from pathlib import Path
from typing import Any

from bench.results import RunStore
from reports import html
from reports.load import load
from reports.payload import blocks
from tests.reports.conftest import make_cell


def test_a_run_of_2000_cells_opens_at_once(browser: Any, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    made = {method: make_cell("ccc", method) for method in ("dla", "activ_scalar", "random")}
    for place in range(2000):
        method = ("dla", "activ_scalar")[place % 2] if place % 12 < 2 else "random"
        record, tensors = made[method]
        changes = {"id": f"c{place}", "task": f"task{place // 100}", "method": f"{method}-{place}"}
        store.write(record.model_copy(update=changes), tensors)
    index = tmp_path / "index.html"
    index.write_text(html.page(load(store.directory), []), "utf-8")
    assert index.stat().st_size < 20_000_000
    browser.get("about:blank")
    start = time.perf_counter()
    browser.get(index.as_uri())
    assert browser.find_element("css selector", "#maps svg").is_displayed()
    assert time.perf_counter() - start < 3
    assert browser.get_log("browser") == []


def test_over_the_budget_controls_give_way_first(run_directory: Path) -> None:
    results = load(run_directory)
    whole = [json.loads(block) for block in blocks(results)]
    methods = [entry for block in whole for entry in block["methods"]]
    size = sum(len(json.dumps(entry)) for entry in methods if not entry["control"])
    part = [json.loads(block) for block in blocks(results, budget=size + 100)]
    for entry in (entry for block in part for entry in block["methods"]):
        assert ("left out" in entry.get("missing", "")) is entry["control"]
