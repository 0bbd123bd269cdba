"""The code of the documentation is run as it stands there."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import methods
from bench.cells import expand
from bench.config import parse
from bench.runner import run_matrix
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
