"""The commands and code of docs/running.md, run in their order on a tiny model."""

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import dask_jobqueue
import pytest
import torch
import yaml
from dask_jobqueue import SLURMCluster as Slurm
from dask_jobqueue.local import LocalCluster as LocalQueue
from distributed import LocalCluster
from typer.testing import CliRunner

from bench.cli.app import app
from bench.store.results import find_cell
from tests.bench.store.test_upkeep import numbers
from tests.small import small_matrix
from tests.test_docs import blocks

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "running.md").read_text("utf-8")
COMMANDS = re.findall(r"^    python -m (bench .+)$", PAGE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's two matrices; the second one asks for more of the same."""
    folder = tmp_path_factory.mktemp("user")
    few = {"prompts": {"train": 2, "test": 2, "shifted": 2}, "smallest_k": False}
    few["models"] = [str(tiny_folder)]  # on the device that there is
    for name, seeds in (("my", [0]), ("other", [0, 1])):
        matrix = small_matrix(tiny_folder, seeds=seeds, output=f"results/{name}", **few)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(matrix.model_dump()))
    return folder


@pytest.fixture(scope="module")
def scheduler(forked_workers: None) -> Iterator[str]:
    with LocalCluster(n_workers=1, host="127.0.0.1", dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def bench(command: str, folder: Path, scheduler: str) -> str:
    """Runs a command of the page, with addresses, cells and prompts that are here."""
    if "CELL" in command:
        store, cell = find_cell("activ_scalar", folder / "results" / "my")
        there = cell if "--results" in command else str(store.cell_directory(cell))
        command = command.replace("CELL", there)
        prompt = store.record(cell).prompts["train"][0].clean
        command = command.replace('"..."', shlex.quote(prompt))
    _, *arguments = shlex.split(command.replace("tcp://10.0.0.1:8786", scheduler))
    with chdir(folder):
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, f"{command}\n{done.output}{done.exception}"
    return done.stdout


@pytest.fixture(scope="module")
def said(folder: Path, scheduler: str) -> dict[str, str]:
    """What every command of the page said, one after the other; workers compute all anew."""
    said = {}
    mine = folder / "results" / "my"
    for command in COMMANDS:
        if "--workers" in command or "--scheduler" in command:
            before = numbers(mine)
            shutil.rmtree(mine)
        said[command] = bench(command, folder, scheduler)
        if "--workers" in command or "--scheduler" in command:
            assert numbers(mine) == before
    return said


def test_every_command_does_what_the_page_says(folder: Path, said: dict[str, str]) -> None:
    assert len(said) == len(set(COMMANDS)) == 18
    assert "would run  4" in said["bench plan my.yaml"]
    assert "would run, about" in said["bench plan paper"]
    assert "4 cells to compute" in said["bench run my.yaml"]
    assert "done    4" in said["bench status results/my"]
    assert "provenance:" in said["bench show CELL --results results/my"]
    assert "the same bits" in said["bench reproduce CELL --results results/my"]
    assert "0 removed" in said["bench rm results/my --stale"]
    export = "bench export-scores CELL --format mib -o scores.json"
    assert "wrote scores.json: 3 nodes with a score" in said[export]
    assert "4 finished cells were taken over" in said["bench run other.yaml --reuse results/my"]
    for command in ("--workers 2", "--scheduler tcp://10.0.0.1:8786"):
        assert "4 of 4 done)" in said[f"bench run my.yaml {command}"]
    verify = "bench verify docs/results/results.json"
    assert "self-reported" in said[verify]
    assert "3 of 3 cells computed again agree" in said[f"{verify} --recompute 3"]
    assert "all checks passed" in said["bench check my_method --plugin my_method.py"]
    logs = folder / "results" / "my" / "logs"
    assert any("starting" in file.read_text() for file in logs.iterdir())


def test_the_exported_intervention_steers_as_the_page_says(
    folder: Path, said: dict[str, str], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    (code,) = [block for block in blocks(PAGE, "python") if "steered" in block]
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(tiny_folder).eval()
    store, cell = find_cell("activ_scalar", folder / "results" / "my")
    tokens = store.record(cell).prompts["train"][0].token_ids
    inputs = {"input_ids": torch.tensor([tokens]), "max_new_tokens": 2, "do_sample": False}
    monkeypatch.chdir(folder)
    before = model(torch.tensor([tokens])).logits
    exec(code, {"model": model, "inputs": inputs})
    assert torch.equal(model(torch.tensor([tokens])).logits, before)


def test_the_slurm_script_starts_workers_that_compute(
    folder: Path, said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's own call makes Slurm's script; dask-jobqueue's local queue runs the rest."""
    (code,) = [block for block in blocks(PAGE, "python") if "SLURMCluster" in block]
    scripts = []

    class Here(LocalQueue):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            here = {"host": "127.0.0.1", "dashboard_address": None}
            with Slurm(**settings, scheduler_options=here) as cluster:
                scripts.append(cluster.job_script())
            super().__init__(**settings, scheduler_options=here)

    monkeypatch.setattr(dask_jobqueue, "SLURMCluster", Here)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    mine = folder / "results" / "my"
    before = numbers(mine)
    shutil.rmtree(mine)
    exec(code.replace("jobs=2", "jobs=1"), {"__name__": "__main__"})  # they start alike
    assert numbers(mine) == before
    assert "#SBATCH --gres=gpu:1" in scripts[0]
    assert "--resources GPU=1 --memory-limit 0" in scripts[0]


def test_the_pages_links_are_there() -> None:
    local = [t for t in re.findall(r"\]\(([^)#]+)\)", PAGE) if not t.startswith("http")]
    assert not [target for target in local if not (ROOT / "docs" / target).is_file()]
