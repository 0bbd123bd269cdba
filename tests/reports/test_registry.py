"""Every figure and table of the tables FIGURES and TABLES keeps the contract."""

import re
from pathlib import Path

import pandas as pd
import pytest

from bench.store.results import RunStore
from reports.figures import FIGURES
from reports.load import Results, load
from reports.tables import TABLES
from tasks.errors import UserInputError
from tests.reports.cells import make_failure, what_lacks


@pytest.fixture
def failures_only(small_store: RunStore) -> Results:
    small_store.write(*make_failure("ccc", "dla"))
    return load(small_store.directory)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_what_it_lacks(name: str, results: Results, failures_only: Results) -> None:
    """What lacks nothing is drawn in `test_numbers.py`."""
    entry = FIGURES[name]
    for scope in entry.scopes(results):
        reason = what_lacks(name, scope)
        if reason is None:
            continue
        for make in (entry.figure, entry.numbers):
            with pytest.raises(UserInputError, match=reason):
                make(results, **scope)
    for scope in entry.scopes(failures_only):
        with pytest.raises(UserInputError):
            entry.figure(failures_only, **scope)
    with pytest.raises(UserInputError, match="has no task 'x'"):
        entry.figure(results, task="x")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_a_frame_even_of_failures_only(
    name: str, results: Results, failures_only: Results
) -> None:
    for run in (results, failures_only):
        for scope in TABLES[name].scopes(run):
            assert isinstance(TABLES[name].table(run, **scope), pd.DataFrame)
    with pytest.raises(UserInputError, match="has no task 'x'"):
        TABLES[name].table(results, task="x")


def test_one_of_several_tasks_has_to_be_named(results: Results) -> None:
    with pytest.raises(UserInputError, match="smollm2-135m · ccc; smollm2-135m · hostile"):
        FIGURES["comparison"].figure(results)
    assert results.one(task="ccc") == ("smollm2-135m", "ccc")


def test_the_python_of_the_documentation_runs(run_directory: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text("utf-8")
    (code,) = re.findall("```python\n(.*?)```", page, flags=re.DOTALL)
    part = f"load({str(run_directory)!r}).only(tasks=['ccc'])"
    assert 'load("results/my")' in code
    exec(code.replace('load("results/my")', part), {})
