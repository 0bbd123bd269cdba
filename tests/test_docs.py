"""The code of the documentation is run as it stands there."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import methods
from bench.evaluation.unsteered import every_variety
from bench.execution.run import run_matrix
from bench.matrix.yaml_file import parse
from reports.figures import FIGURES
from reports.tables import TABLES
from tasks import TASKS
from tasks.build import build_task, label_of
from tasks.registry import Entry
from tests.small import brief_matrix, planned

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def rows_below(heading: str) -> list[str]:
    """Lines of the table of docs/methods.md behind a heading, without the table's own."""
    table = page("methods").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def documented_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's file and the page's line, put where the page says."""
    file, line = blocks(page("adding-a-method"), "python")
    (tmp_path / "activ_norm.py").write_text(file)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    entries: dict[str, Entry] = eval(f"{{{line}}}", {"Entry": Entry})
    for name, entry in entries.items():
        monkeypatch.setitem(methods.METHODS, name, entry)
    yield "activ_norm"
    sys.modules.pop("methods.activ_norm", None)


def test_the_documented_method_runs_in_a_matrix(
    documented_method: str, tiny_folder: Path, tmp_path: Path
) -> None:
    (example,) = blocks(page("adding-a-method"), "yaml")
    few = {"prompts": {"train": 2, "test": 2, "shifted": 2}}
    models = [{"name": str(tiny_folder), "device": "cpu"}]
    changes = {**yaml.safe_load(example), "models": models, **few, "controls": {"draws": 1}}
    matrix = brief_matrix(tiny_folder, **changes)
    outcome = run_matrix(matrix, tmp_path / "results")
    table = outcome.store.table()
    assert not outcome.failed
    labels = set(table["method"])
    assert {"activ_norm", "activ_norm[order=1.0]", "shuffled[of=activ_norm]"} <= labels
    assert len({cell.method.label for cell in planned(matrix)}) == len(labels)
    assert "activ_norm" in (outcome.store.directory / "agreement.csv").read_text()


def test_the_page_of_tasks_is_complete_and_its_examples_are_right(tmp_path: Path) -> None:
    text = page("tasks")
    for name in TASKS:
        assert f"`{name}`" in text or f"name: {name}," in text
    measured = {label_of(name, task) for name, task in every_variety()}
    assert measured == set(re.findall(r"^\| ([\w=,\[\]]+) \| \d+ \|", text, flags=re.MULTILINE))
    for example in blocks(text, "yaml"):
        matrix = {"models": ["smollm2-135m"], "methods": ["dla"], **yaml.safe_load(example)}
        assert planned(parse(matrix, "the page"))
    (rows,) = blocks(text, "json")
    (tmp_path / "my.jsonl").write_text(rows)
    _, task = build_task(str(tmp_path / "my.jsonl"), {})
    assert task.entities() == ("sky", "snow")


def test_the_page_of_reports_names_every_figure_and_table_and_has_its_pictures() -> None:
    text = page("reports")
    for name in [*FIGURES, *TABLES]:
        assert f"`{name}`" in text
    pictures = re.findall(r"\]\(images/reports/([^)]+)\.png\)", text)
    assert sorted([*pictures, "comparison"]) == sorted(FIGURES), "that one is in the README"
    sizes = [(ROOT / "docs/images/reports" / f"{name}.png").stat().st_size for name in pictures]
    assert sum(sizes) < 1_000_000, "a clone stays small"
    for example in blocks(text, "yaml"):
        parse(yaml.safe_load(example), "the page")


def test_the_page_of_methods_says_of_every_method_what_has_to_be_known() -> None:
    first, *others = re.split(r"^## ", page("methods"), flags=re.MULTILINE)[1:]
    sections = {name.strip(): text for name, _, text in (one.partition("\n") for one in others)}
    for name in methods.METHODS:
        assert f"| `{name}`" in first or f", `{name}`" in first or name in sections
    for name in sections.keys() & methods.METHODS.keys():
        text = sections[name].lower()
        for word in ("score.**", "sign**", "needs**", "source.**", "when not to trust it.**"):
            assert f"**{word}" in text
        assert "passes" in text


def test_every_equality_of_the_page_of_methods_names_its_test() -> None:
    rows = rows_below("What equals what")
    named = re.findall(r"`(\w+\.py)::(\w+)` \|$", "\n".join(rows), flags=re.MULTILINE)
    assert len(named) == len(rows) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / "methods" / file).read_text("utf-8")


def test_every_method_names_what_its_numbers_are_derived_from_a_second_time() -> None:
    rows = [line.split(" | ") for line in rows_below("What each is checked against")]
    assert {row[0].strip("|` ") for row in rows} == set(methods.METHODS)
    for row in rows:
        for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", " ".join(row)):
            assert f"def {name}(" in (ROOT / "tests" / "methods" / file).read_text("utf-8")
        assert "test_embedded_" in row[4] or row[3] == "no model is run"
        assert "::test_" in row[2]
