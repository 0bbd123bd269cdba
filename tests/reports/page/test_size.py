"""A page of a large run: how large, how soon it answers, what it leaves out."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bench.store.results import RunStore
from reports import html
from reports.load import Results, load
from reports.payload import blocks
from reports.sections import Drawn
from reports.write import ReportOptions, write_report
from tests.reports.conftest import TRAINED, UNTRAINED, make_cell
from tests.reports.page.steps import choose, shown, wait_for

LARGEST, SLOWEST = 20_000_000, 3.0
"""What the page of a run of 2,000 cells may weigh (bytes) and take to be of use (seconds)."""
TASKS = 20


@pytest.fixture(scope="module")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 cells: 20 tasks, ten methods under five seeds, and ten controls of five draws each."""
    store = RunStore.create(tmp_path_factory.mktemp("large") / "run", {})
    methods = [*UNTRAINED, *TRAINED, "dla[form=strict]", "mine"]
    controls = ["random", *(f"shuffled[of={method}]" for method in methods[:9])]
    made = [make_cell("ccc", method, seed=n) for method in methods for n in range(5)]
    made += [make_cell("ccc", control, draw=n) for control in controls for n in range(5)]
    for place in range(TASKS):
        for number, (record, tensors) in enumerate(made):
            changes = {"id": f"c{place}-{number}", "task": f"task{place}"}
            store.write(record.model_copy(update=changes), tensors)
    assert len(store.ids()) == 2000
    return store.directory


def drawn_for_all(results: Results, folder: Path) -> list[Drawn]:
    """Every figure of one task, as a report draws them, then of all: their cells are the same."""
    figures = ["comparison", "leaderboard", "sparsity", "maps", "stability", "overlap", "scatter"]
    one = write_report(
        results.store.directory, folder, ReportOptions(tasks=["task0"], figures=figures)
    )
    size = {"model": "smollm2-135m"}
    stems = {name: f"{name}-smollm2-135m-task0" for name in figures}
    svgs = {
        name: (one.parent / "figures" / f"{stem}.svg").read_bytes() for name, stem in stems.items()
    }
    return [
        Drawn(name, size | {"task": f"task{place}"}, f"{name}-{place}", svgs[name], 6.75)
        for place in range(TASKS)
        for name in figures
    ]


def test_a_run_of_2000_cells_has_a_small_page_that_answers_at_once(
    browser: Any, large_run: Path, tmp_path: Path
) -> None:
    results = load(large_run)
    index = tmp_path / "index.html"
    index.write_text(html.page(results, drawn_for_all(results, tmp_path / "one")), "utf-8")
    assert index.stat().st_size < LARGEST
    browser.get("about:blank")
    start = time.perf_counter()
    browser.get(f"{index.as_uri()}#task=task7&method=dyn_scalar")
    wait_for(browser, "document.readyState === 'complete'")
    assert len(browser.find_elements("css selector", "#maps svg")) == 2
    assert browser.find_element("id", "sweep-box").is_displayed()
    assert browser.find_element("id", "task").get_attribute("value") == "task7"
    assert time.perf_counter() - start < SLOWEST
    start = time.perf_counter()
    choose(browser, "task", "task19")
    assert shown(browser).get_attribute("data-task") == "task19"
    assert time.perf_counter() - start < SLOWEST
    said = browser.find_element("id", "left-out").text
    pictures = browser.find_elements("css selector", "figure.drawn img")
    missing = TASKS * 7 - len(pictures)
    assert len(pictures) > 0
    assert f"{missing} figures" in said
    assert browser.get_log("browser") == []


def test_over_the_budget_controls_give_way_first_and_the_page_says_so(run_directory: Path) -> None:
    results = load(run_directory)
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


def test_within_the_budget_the_best_methods_keep_their_maps(run_directory: Path) -> None:
    results = load(run_directory)
    texts, _ = blocks(results)
    texts, left_out = blocks(results, sum(len(text.encode()) for text in texts) // 2)
    assert left_out["strengths of the evaluation"] > left_out["score maps"] > 0
    for text in texts:
        methods = [one for one in json.loads(text)["methods"] if not one["control"]]
        kept = ["maps" in one for one in methods if "missing" not in one]
        assert kept == sorted(kept, reverse=True)
        assert kept[0]
