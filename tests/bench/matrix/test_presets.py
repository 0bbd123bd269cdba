"""The paper's presets: valid, complete, and each draws its figures from what it stores."""

from pathlib import Path
from typing import Any

import pytest

from bench.execution.run import run_matrix
from bench.matrix.config import (
    find_file,
    is_suite,
    load_config,
    load_suite,
    of_size,
    preset_names,
    read_file,
)
from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import parse
from bench.models.tiny import save_tiny
from reports.figures import FIGURES
from reports.load import load
from reports.style import TINY
from tests.reports.test_figures import assert_legible, texts
from tests.small import planned, task_texts

PAPER = tuple(load_suite("paper").matrices)
SMALLER: dict[str, dict[str, Any]] = {
    "table1": {"tasks": ["ccc", "ioi"]},
    "fig2": {"tasks": ["ioi"], "objective": {"margin": 1, "lambda_f": [0, 1, 10], "lambda_m": 0}},
    "fig3": {"prompts": {"train": 1, "test": 2, "shifted": 0, "seed": [0, 1]}},
    "fig4": {"prompts": {"train": [2, 1], "test": 2, "shifted": 0}, "seeds": [0, 1]},
    "fig5": {"transfer": ["ioi"]},
    "fig6": {
        "tasks": ["ccc", "ioi", {"name": "mixture", "of": ["ccc", "ioi"]}],
        "transfer": ["ccc", "ioi"],
    },
    "fig8": {"tasks": ["fact_conflict"]},  # the tiny tokenizer knows nothing of the iPhone
    "sensitivity": {
        "methods": [{"name": "activ_scalar", "epochs": [2, 1], "batch_size": [None, 1]}],
        "objective": {"lambda_m": [1e-3, 0]},
        "prompts": {"train": 2, "test": 2, "shifted": 0},
    },
    "corruption": {
        "methods": [
            {"name": "attr_patch", "direction": ["noising", "denoising"]},
            {"name": "attr_patch", "corruption": "zero"},
        ]
    },
}


def smaller(name: str, folder: Path) -> Matrix:
    """The preset on a tiny model: as it stands, but for its size."""
    preset: dict[str, Any] = of_size(read_file(find_file(name)), "small", name)
    several = isinstance(preset["prompts"].get("seed"), list)
    cheap = {"prices": {"at": [0.3], "curve": False}, "localisation": {"k": []}}
    data = {**cheap, "smallest_k": False, **preset, **SMALLER.get(name, {})}
    data |= {"models": [{"name": str(folder), "device": "cpu"}], "sweep": {"points": 5}}
    if "prompts" not in SMALLER.get(name, {}):
        seeds = [0, 1] if several else 0
        data["prompts"] = {"train": 2, "test": 2, "shifted": 2, "seed": seeds}
    matrix = parse(data, name)
    methods = [choice.model_dump() for choice in matrix.methods]
    trained = ("activ_scalar", "steer_vec", "dyn_scalar")
    quick = [{"epochs": 2, **one} if one["name"] in trained else one for one in methods]
    return parse({**data, "methods": quick}, name)


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("name", PAPER)
def test_a_preset_expands_into_cells_and_names_figures_that_there_are(name: str, size: str) -> None:
    matrix = load_config(name, size=size)
    cells = planned(matrix)
    assert cells
    assert len({cell.id for cell in cells}) == len(cells)
    assert matrix.figures
    assert set(matrix.figures) <= set(FIGURES)
    models = {cell.model.name for cell in cells}
    assert (models == {"smollm2-135m"}) == (size == "small")


def test_paper_runs_every_preset_that_is_of_the_paper() -> None:
    others = {"quick", "standard", "paper", "methods", "truth", "truth-full", "sparse"}
    assert set(PAPER) == set(preset_names()) - others
    assert is_suite("paper")
    assert not is_suite("quick")


def test_a_pilot_differs_in_its_draws_of_prompts_alone() -> None:
    """No number of draws is chosen after looking at what it is chosen for."""
    pilots = load_suite("paper", size="pilot").matrices
    assert len(pilots) > 3
    for name, pilot in pilots.items():
        small = load_config(name)
        assert not {*pilot.prompts.seed} & {*small.prompts.seed}
        prompts = pilot.prompts.model_copy(update={"seed": small.prompts.seed})
        assert pilot.model_copy(update={"prompts": prompts, "output": small.output}) == small


@pytest.mark.parametrize("name", PAPER)
def test_a_preset_draws_its_figures_from_what_it_stores(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    outcome = run_matrix(smaller(name, tiny_folder), tmp_path / "run")
    assert not outcome.failed
    results = load(tmp_path / "run")
    for figure in outcome.store.config["figures"]:
        entry = FIGURES[figure]
        for scope in entry.scopes(results):
            if "task" in scope and scope["task"].startswith("mixture"):
                continue
            drawn = entry.figure(results, **scope)
            assert_legible(drawn)
            assert len(texts(drawn)) > 5
            assert min(text.get_fontsize() for text in texts(drawn)) >= TINY
            assert len(entry.numbers(results, **scope))


@pytest.mark.parametrize(("architecture", "name"), [("gpt_neox", "fig9"), ("gemma2", "fig7")])
def test_heads_and_the_comparison_run_on_other_architectures(
    architecture: str, name: str, tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path / "model", architecture, task_texts(), n_layers=2)
    matrix = smaller(name, folder)
    one = matrix.model_dump() | {"prompts": {"train": 1, "test": 1, "shifted": 0}}
    assert not run_matrix(parse(one, name), tmp_path / "run").failed
    results = load(tmp_path / "run")
    assert_legible(FIGURES[matrix.figures[0]].figure(results))
    assert len(FIGURES["comparison"].numbers(results))
