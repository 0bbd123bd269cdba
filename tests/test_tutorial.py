"""The code of docs/tutorial.ipynb, run on a tiny model; `tox -e tutorial` runs it as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
NOTEBOOK: dict[str, Any] = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text("utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = ["".join(cell["source"]) for cell in CODE]
    whole = "\n".join(cells)
    model = 'MODEL = "smollm2-135m"'
    assert model in whole
    whole = whole.replace(model, f"MODEL = {str(tiny_folder)!r}")
    names: dict[str, Any] = {}
    exec(compile(whole, "tutorial.ipynb", "exec"), names)
    assert isinstance(names["figure"], Figure)
    methods = set(names["run"].table().query("status == 'done'")["method"])
    assert {"activ_norm", "activ_patch", "attr_patch", "grad_scalar", "activ_scalar"} <= methods
    assert (tmp_path / "comparison.pdf").is_file()


def test_its_outputs_are_kept_and_are_no_errors() -> None:
    kinds = [output["output_type"] for cell in CODE for output in cell["outputs"]]
    assert "error" not in kinds
    shown = [
        output
        for cell in CODE
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) >= 5
