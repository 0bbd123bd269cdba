"""Workers are real processes; one is killed in the middle of a cell, one hangs, one has failed."""

from pathlib import Path

import pytest
from distributed import LocalCluster

from bench.cells import PlannedCell
from bench.cluster import ClusterLostError
from bench.options import RunOptions
from bench.records import CellRecord
from bench.runner import Outcome, Silent, run_matrix
from tasks.errors import UserInputError
from tests.bench.test_upkeep import numbers
from tests.small import small_matrix

PLUGIN = '''
"""Methods that go wrong in ways that only processes can."""
import ctypes, os, signal, time
from dataclasses import dataclass
from pathlib import Path
from methods.grad_scalar import GradScalar

@dataclass(frozen=True)
class Killed(GradScalar):
    """Killed in the middle of a cell, as often as it says."""
    marks: str = ""
    times: int = 1

    def fit(self, *arguments):
        marks = Path(self.marks)
        marks.mkdir(exist_ok=True)
        if len(list(marks.iterdir())) < self.times:
            (marks / str(time.time_ns())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(*arguments)

@dataclass(frozen=True)
class Hung(GradScalar):
    """Waits in a call that cannot be interrupted."""
    def fit(self, *arguments):
        ctypes.CDLL(None).sleep(600)

@dataclass(frozen=True)
class Broken(GradScalar):
    """Raises."""
    def fit(self, *arguments):
        raise RuntimeError("no gradient today")

METHODS = {"killed": Killed, "hung": Hung, "broken": Broken}
'''


class Noting(Silent):
    """Keeps who was started and finished."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.loaded: list[str] = []
        self.records: list[CellRecord] = []

    def loading(self, model: str) -> None:
        self.loaded.append(model)

    def starting(self, cell: PlannedCell) -> None:
        self.started.append(cell.id)

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugins") / "unlucky.py"
    file.write_text(PLUGIN)
    return file


@pytest.fixture(scope="module")
def alone(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "alone"
    run_matrix(small_matrix(tiny_folder, seeds=[0, 1]), folder, options=RunOptions(threads=1))
    return folder


def test_workers_of_a_cluster_give_the_numbers_of_one_process(
    alone: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    noting = Noting()
    matrix = small_matrix(tiny_folder, seeds=[0, 1])
    with LocalCluster(
        n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        options = RunOptions(scheduler=cluster.scheduler_address, threads=1)
        outcome = run_matrix(matrix, tmp_path / "run", noting, options)
        again = run_matrix(matrix, tmp_path / "run", options=options)
    assert not outcome.failed
    assert not again.computed
    assert numbers(outcome.store.directory) == numbers(alone)
    assert set(noting.started) == set(outcome.computed)
    assert len(noting.loaded) <= 2  # once a worker
    processes = {record.provenance["process"] for record in noting.records}
    assert len(processes) == 2
    assert {record.provenance["threads"] for record in noting.records} == {1}


@pytest.fixture(scope="module")
def unlucky(
    tiny_folder: Path, plugin: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcome, Path]:
    """A run in which workers are killed once, killed always, and hang."""
    folder = tmp_path_factory.mktemp("unlucky")
    methods = [
        {"name": "killed", "marks": str(folder / "once")},
        {"name": "killed", "marks": str(folder / "always"), "times": 100},
        "broken",
        "grad_scalar",
        "hung",
    ]
    matrix = small_matrix(
        tiny_folder, methods=methods, plugins=[str(plugin)], controls={"draws": 0}
    )
    options = RunOptions(workers=2, threads=1, cell_timeout=4)
    return run_matrix(matrix, folder / "run", options=options), folder


def test_a_killed_workers_cell_is_computed_by_another(
    unlucky: tuple[Outcome, Path], alone: Path
) -> None:
    outcome, folder = unlucky
    done = {outcome.store.record(name).method: name for name in outcome.computed}
    assert len(done) == 2, [record.error for record in outcome.failed]
    once = next(name for label, name in done.items() if "once" in label)
    assert len(list((folder / "once").iterdir())) == 1
    same = outcome.store.read(done["grad_scalar"]).tensors
    found = outcome.store.read(once).tensors
    assert all((found[name] == same[name]).all() for name in ("scores", "split.test.ld"))


def test_what_kills_hangs_or_breaks_is_a_result(unlucky: tuple[Outcome, Path]) -> None:
    outcome, folder = unlucky
    errors = {record.method.partition("[")[0]: record.error for record in outcome.failed}
    kinds = {name: error.kind for name, error in errors.items() if error}
    assert kinds == {
        "killed": "WorkerDiedError", "hung": "CellTimeoutError", "broken": "RuntimeError"
    }  # fmt: skip
    assert len(list((folder / "always").iterdir())) > 1
    assert errors["broken"] is not None
    assert "no gradient today" in errors["broken"].log
    assert "limit of 4 s" in errors["hung"].message  # type: ignore[union-attr]


def test_no_scheduler_is_one_sentence(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClusterLostError, match="No dask scheduler answers"):
        run_matrix(
            small_matrix(tiny_folder),
            tmp_path / "run",
            options=RunOptions(scheduler="tcp://127.0.0.1:9"),
        )


def test_one_process_needs_no_dask_and_workers_say_how_to_get_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bench.cluster", None)
    with pytest.raises(UserInputError, match=r"attribution-bench\[dask\]"):
        run_matrix(small_matrix(tiny_folder), tmp_path / "run", options=RunOptions(workers=2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 1, "scheduler": "tcp://x:1"}, "give one"),
        ({"workers": 0}, "--workers is 0"),
        ({"cell_timeout": -1.0}, "--cell-timeout is -1"),
        ({"threads": 0}, "--threads is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserInputError, match=words):
        RunOptions(**options)  # type: ignore[arg-type]
