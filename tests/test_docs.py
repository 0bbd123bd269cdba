"""The code of the documentation is run as it stands there."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import methods
from bench.evaluation.unsteered import every_variety
from bench.execution.run import run_matrix
from bench.matrix.cells import expand
from bench.matrix.yaml_file import parse
from reports.figures import FIGURES
from reports.tables import TABLES
from tasks import TASKS
from tasks.build import build_task, label_of
from tasks.registry import Entry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def documented_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's file and the page's line, put where the page says."""
    file, line = blocks(PAGE, "python")
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
    (example,) = blocks(PAGE, "yaml")
    matrix = parse(
        {
            **yaml.safe_load(example),
            "models": [{"name": str(tiny_folder), "device": "cpu"}],
            "prompts": {"train": 2, "test": 2, "shifted": 2},
            "controls": {"draws": 1},
            "prices": {"at": [0.3], "curve": False},
            "localisation": {"k": []},
        },
        "the page",
    )
    outcome = run_matrix(matrix, tmp_path / "results")
    table = outcome.store.table()
    assert not outcome.failed
    labels = set(table["method"])
    assert {"activ_norm", "activ_norm[order=1.0]", "shuffled[of=activ_norm]"} <= labels
    cells = {cell.method.label: cell.id for cell in expand(matrix, lambda n: "", lambda d: "cpu")}
    assert len(cells) == len(labels)
    agreement = outcome.store.directory / "agreement.csv"
    assert "activ_norm" in agreement.read_text()


def test_the_page_of_tasks_is_complete_and_its_examples_are_right(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    for name in TASKS:
        assert f"`{name}`" in page or f"name: {name}," in page
    measured = {label_of(name, task) for name, task in every_variety()}
    assert measured == set(re.findall(r"^\| ([\w=,\[\]]+) \| \d+ \|", page, flags=re.MULTILINE))
    for example in blocks(page, "yaml"):
        matrix = {"models": ["smollm2-135m"], "methods": ["dla"], **yaml.safe_load(example)}
        assert expand(parse(matrix, "the page"), lambda name: "", lambda device: "cpu")
    (rows,) = blocks(page, "json")
    (tmp_path / "my.jsonl").write_text(rows)
    _, task = build_task(str(tmp_path / "my.jsonl"), {})
    assert task.entities() == ("sky", "snow")


def test_the_page_of_reports_names_every_figure_and_table_and_has_its_pictures() -> None:
    page = (ROOT / "docs" / "reports.md").read_text("utf-8")
    for name in [*FIGURES, *TABLES]:
        assert f"`{name}`" in page
    pictures = re.findall(r"\]\(images/reports/([^)]+)\.png\)", page)
    assert sorted([*pictures, "comparison"]) == sorted(FIGURES), "that one is in the README"
    sizes = [(ROOT / "docs/images/reports" / f"{name}.png").stat().st_size for name in pictures]
    assert sum(sizes) < 1_000_000, "a clone stays small"
    for example in blocks(page, "yaml"):
        parse(yaml.safe_load(example), "the page")


def test_the_page_of_methods_says_of_every_method_what_has_to_be_known() -> None:
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    first, *others = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    sections = {name.strip(): text for name, _, text in (one.partition("\n") for one in others)}
    for name in methods.METHODS:
        assert f"| `{name}`" in first or f", `{name}`" in first or name in sections
    for name, text in sections.items():
        if name not in methods.METHODS:
            continue
        for word in (
            "**Score.**",
            "**Sign**",
            "**Needs**",
            "**Source.**",
            "**When not to trust it.**",
        ):
            assert word in text
        assert "passes" in text.lower()


def test_every_equality_of_the_page_of_methods_names_its_test() -> None:
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    _, _, table = page.partition("## What equals what\n")
    table, _, _ = table.partition("\n## ")
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = re.findall(r"`(\w+\.py)::(\w+)` \|$", table, flags=re.MULTILINE)
    assert len(named) == len(rows) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / "methods" / file).read_text("utf-8")


def test_every_method_names_what_its_numbers_are_derived_from_a_second_time() -> None:
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    _, _, table = page.partition("## What each is checked against\n")
    table, _, _ = table.partition("\n## ")
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert {row[0].strip("|` ") for row in rows} == set(methods.METHODS)
    for row in rows:
        for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", " ".join(row)):
            assert f"def {name}(" in (ROOT / "tests" / "methods" / file).read_text("utf-8")
        assert "test_embedded_" in row[4] or row[3] == "no model is run"
        assert "::test_" in row[2]
