"""The picture of the two questions shows what the run stores."""

from pathlib import Path

import pytest

from reports.figures import FIGURES
from reports.html import page
from reports.load import load
from reports.write import ReportOptions, write_report

PAIR = {"model": "smollm2-135m", "task": "ccc"}


def test_the_shares_are_those_of_the_stored_numbers(run_directory: Path) -> None:
    results = load(run_directory)
    table = results.table.query("task == 'ccc' and split == 'test' and status == 'done'")
    for row in FIGURES["answer"].numbers(results, **PAIR).to_dict("records"):
        own = table[table["method"] == row["method"]]
        kind = "one" if own["trained"].all() else "star"
        at_price = own[own["beta_kind"] == "price"]
        rows = at_price if len(at_price) else own[own["beta_kind"] == kind]
        share = 1 - rows["E_0"].mean() / rows["E_0_unsteered"].mean()
        assert row["steers"] == pytest.approx(share), row["method"]
        assert row["steers_low"] <= row["steers"] <= row["steers_high"]


def test_it_stands_on_the_page_before_any_table(run_directory: Path, tmp_path: Path) -> None:
    options = ReportOptions(tasks=["ccc"], figures=["answer"])
    text = write_report(run_directory, tmp_path / "report", options).read_text("utf-8")
    assert text.index("Does it steer?") < text.index("Does it know where?") < text.index("<img")
    assert text.index("<img") < text.index("<table")
    assert "<img" not in page(load(run_directory), [])
