"""A synthetic run as the suite would leave it: two tasks, hostile strings, failures, controls."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.store.results import RunStore
from reports.load import Results, load
from tests.reports.cells import (
    HOSTILE,
    TRAINED,
    UNTRAINED,
    make_agreement,
    make_cell,
    make_failure,
)


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests only read it."""
    directory = tmp_path_factory.mktemp("runs") / "quick"
    store = RunStore.create(directory, {"preset": "quick"}, suite_version="0.1.0")
    for task in ("ccc", "hostile"):
        for method in (*UNTRAINED, *TRAINED):
            if (task, method) == ("hostile", "dla"):
                store.write(*make_failure(task, method, f"NaN in logits {HOSTILE[0]}\x1b[31m"))
                continue
            record, tensors = make_cell(task, method)
            if (task, method) == ("hostile", "attr_patch"):
                metrics = [record.metrics[0].model_copy(update={"E_0": np.nan})]
                record = record.model_copy(update={"metrics": [*metrics, *record.metrics[1:]]})
            store.write(record, tensors)
        if task == "hostile":
            store.write(*make_cell(task, "dyn_scalar", seed=1))
        for control in ("random", "shuffled[of=activ_patch]"):
            for draw in range(5):
                store.write(*make_cell(task, control, draw=draw))
    store.write_frame("results", store.table())
    methods = (*UNTRAINED, *TRAINED)
    agreement = pd.concat([make_agreement(task, methods) for task in ("ccc", "hostile")])
    store.write_frame("agreement", agreement)
    return directory


@pytest.fixture(scope="session")
def results(run_directory: Path) -> Results:
    """What that run holds."""
    return load(run_directory)


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformer_lens", "transformers"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
from reports.write import ReportOptions, write_report
write_report(sys.argv[1], sys.argv[2], ReportOptions(figures=sys.argv[3:]))
assert "matplotlib.pyplot" not in sys.modules
"""
WRITTEN = ("agreement", "leaderboard", "stability", "critical", "agreement_pooled")
"""Figures of the report that is written once; all are drawn in test_numbers."""


@pytest.fixture(scope="session")
def index(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of that run's report as a process writes it that has no torch."""
    folder = tmp_path_factory.mktemp("out") / "report"
    arguments = [sys.executable, "-c", WITHOUT_TORCH, str(run_directory), str(folder), *WRITTEN]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder / "index.html"


@pytest.fixture
def small_store(tmp_path: Path) -> RunStore:
    """An empty run to write own cells into."""
    return RunStore.create(tmp_path / "run", {})
