"""Workers are real processes; one is killed in the middle of a cell, one hangs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from bench.execution.cell_runner import Watcher
from bench.execution.dask_cluster import NoWorkerError
from bench.execution.dask_worker import log_name
from bench.execution.run import Outcome, run_matrix
from bench.matrix.cells import PlannedCell
from bench.matrix.options import RunOptions
from bench.plugins import uninstall
from bench.store.records import CellRecord
from bench.store.results import RunStore
from tests.bench.store.test_upkeep import numbers
from tests.dask_processes import ROOT, scheduler, worker
from tests.small import small_matrix

PLUGIN = '''
"""Methods that go wrong in ways that only processes can."""
import ctypes, os, signal, sys, time
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
            print("these are my last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(*arguments)

@dataclass(frozen=True)
class Hung(GradScalar):
    """Waits in a call that keeps the GIL."""
    def fit(self, *arguments):
        ctypes.PyDLL(None).sleep(600)

@dataclass(frozen=True)
class Waiting(GradScalar):
    """Waits in a call that gives the GIL up."""
    def fit(self, *arguments):
        ctypes.CDLL(None).sleep(600)

METHODS = {"killed": Killed, "hung": Hung, "waiting": Waiting}
'''
MINE = '''
"""A method of the same name as somebody else's."""
import logging
from dataclasses import dataclass
from methods.grad_scalar import GradScalar

@dataclass(frozen=True)
class Mine(GradScalar):
    """Scales what gradients say."""
    factor: float = FACTOR
    def fit(self, *arguments):
        logging.getLogger("methods").warning("scaled by %g", self.factor)
        return super().fit(*arguments)

METHODS = {"mine": Mine}
'''


class Noting(Watcher):
    """Keeps who was started and finished."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.loaded: list[str] = []
        self.interruptions: list[str] = []
        self.records: list[CellRecord] = []

    def loading(self, model: str) -> None:
        self.loaded.append(model)

    def starting(self, cell: PlannedCell) -> None:
        self.started.append(cell.id)

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        self.interruptions.append(cell.method.label)

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
    run_matrix(small_matrix(tiny_folder), folder, options=RunOptions(threads=1))
    return folder


@pytest.fixture(scope="module")
def cluster(forked_workers: None) -> Iterator[LocalCluster]:
    """A cluster of two workers that somebody else has started, for all runs."""
    with LocalCluster(
        n_workers=2, threads_per_worker=2, memory_limit=0, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def theirs(cluster: LocalCluster) -> str:
    """Its address."""
    return str(cluster.scheduler_address)


def runs_on(address: str) -> set[int]:
    """For how many runs the workers of a cluster hold a model."""
    with Client(address) as client:
        return set(client.run(runs_here).values())


def runs_here() -> int:
    """The same of this process."""
    from bench.execution.dask_worker import RUNS

    return len(RUNS)


def test_workers_of_a_cluster_give_the_numbers_of_one_process(
    alone: Path, tiny_folder: Path, tmp_path: Path, theirs: str
) -> None:
    noting = Noting()
    matrix = small_matrix(tiny_folder)
    options = RunOptions(scheduler=theirs, threads=1)
    outcome = run_matrix(matrix, tmp_path / "run", noting, options)
    again = run_matrix(matrix, tmp_path / "run", options=options)
    assert not outcome.failed
    assert not again.computed
    assert numbers(outcome.store.directory) == numbers(alone)
    assert set(noting.started) == set(outcome.computed)
    assert len(noting.loaded) <= 2  # once a worker
    assert len({record.provenance["process"] for record in noting.records}) <= 2
    assert {record.provenance["threads"] for record in noting.records} == {1}
    logs = list((tmp_path / "run" / "logs").iterdir())
    assert {file.name for file in logs} <= {"0.log", "1.log"}
    assert sum(file.read_text().count("starting") for file in logs) == len(outcome.computed)
    assert log_name("tcp://127.0.0.1:1") == "tcp-127.0.0.1-1.log"


class Late(Noting):
    """Starts another worker once the first cell is done."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__()
        self.cluster = cluster

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        super().finished(cell, record)
        if len(self.records) == 1:
            self.cluster.scale(3)
            self.cluster.wait_for_workers(3, timeout=60)


def test_a_worker_that_comes_late_is_given_cells(
    tiny_folder: Path, tmp_path: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.execution.dask_cluster.LOOK_SECONDS", 0.1)
    matrix = small_matrix(
        tiny_folder, methods=["grad_scalar"], seeds=list(range(24)), controls={"draws": 0}
    )
    late = Late(cluster)
    run_matrix(matrix, tmp_path / "run", late, RunOptions(scheduler=cluster.scheduler_address))
    assert len({record.provenance["worker"] for record in late.records}) == 3


class Meeting(Noting):
    """Goes on after the first cell once the other run has stored a cell."""

    def __init__(self, other: Path) -> None:
        super().__init__()
        self.other = other

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        deadline = time.monotonic() + 120
        while not list(self.other.glob("cells/*")) and time.monotonic() < deadline:
            time.sleep(0.1)


def test_runs_on_one_cluster_leave_each_other_alone(
    tiny_folder: Path, tmp_path: Path, theirs: str
) -> None:
    """Their plug-in files have one name, and a method of one name: neither is the other run's."""
    matrices = []
    for factor in (2, 3):
        file = tmp_path / str(factor) / "mine.py"
        file.parent.mkdir()
        file.write_text(MINE.replace("FACTOR", str(factor)))
        matrices.append(
            small_matrix(tiny_folder, methods=["mine"], plugins=[str(file)], seeds=[0, 1, 2])
        )
    ours, other = tmp_path / "2" / "run", tmp_path / "3" / "run"
    call = f"bench.run({matrices[1].model_dump()!r}, {str(other)!r}, scheduler={theirs!r})"
    beside = subprocess.Popen(
        [sys.executable, "-c", f"import bench; {call}"], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    run_matrix(matrices[0], ours, Meeting(other), RunOptions(scheduler=theirs))
    uninstall()
    assert beside.wait(timeout=120) == 0
    for factor, folder in ((2, ours), (3, other)):
        store = RunStore.open(folder)
        records = [store.record(name) for name in store.ids()]
        assert {record.status for record in records} == {"done"}
        said = "".join(file.read_text() for file in (folder / "logs").iterdir())
        assert f"WARNING methods: scaled by {factor}" in said
        assert f"scaled by {5 - factor}" not in said
    assert runs_on(theirs) == {0}


def test_files_of_tasks_and_plug_ins_travel_to_workers_that_do_not_see_them(
    tiny_folder: Path, tmp_path: Path, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere: a relative path means nothing there
    for name in ("mine", "other", "third"):
        rows = [
            {
                "clean": f"When John and Mary saw {name} {place}",
                "corrupted": f"When Mary and John saw {name} {place}",
                "answer": " Mary",
                "foil": " John",
                "entity": f"{name} {place}",
            }
            for place in range(8)
        ]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("mine.py").write_text(MINE.replace("FACTOR", "1"))
    matrix = small_matrix(
        tiny_folder,
        tasks=["mine.jsonl", {"name": "mixture", "of": ["other.jsonl", "third.jsonl"]}],
        methods=["mine"],
        plugins=["mine.py"],
        prompts={"train": 2, "test": 2, "shifted": 0},
        controls={"draws": 0},
    )
    outcome = run_matrix(matrix, "run", options=RunOptions(scheduler=theirs))
    assert not outcome.failed, [record.error for record in outcome.failed]
    records = [outcome.store.record(name) for name in outcome.computed]
    assert len(records) == 2
    paths = [record.settings["task"].get("path") for record in records]
    assert "mine.jsonl" in paths  # as the matrix has it, not as the worker
    again = run_matrix(matrix, "run")
    assert not again.computed


def test_after_ctrl_c_nothing_of_the_run_is_left_on_workers(
    tiny_folder: Path, tmp_path: Path, theirs: str
) -> None:
    class Interrupting(Noting):
        def starting(self, cell: PlannedCell) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_matrix(
            small_matrix(tiny_folder),
            tmp_path / "run",
            Interrupting(),
            RunOptions(scheduler=theirs),
        )
    deadline = time.monotonic() + 60
    while runs_on(theirs) != {0} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert runs_on(theirs) == {0}


def test_a_kind_of_device_that_no_worker_has_is_one_sentence(
    tiny_folder: Path, tmp_path: Path, theirs: str
) -> None:
    matrix = small_matrix(tiny_folder, models=[{"name": str(tiny_folder), "device": "cuda"}])
    options = RunOptions(scheduler=theirs, patience=3)
    with pytest.raises(NoWorkerError, match=r"No worker computes on cuda .*\(cpu\)"):
        run_matrix(matrix, tmp_path / "run", options=options)


@pytest.fixture(scope="module")
def unlucky(
    tiny_folder: Path,
    plugin: Path,
    tmp_path_factory: pytest.TempPathFactory,
    forked_workers: None,
) -> tuple[Outcome, Path, Noting]:
    folder = tmp_path_factory.mktemp("unlucky")
    methods = [
        {"name": "killed", "marks": str(folder / "once")},
        {"name": "killed", "marks": str(folder / "always"), "times": 100},
        "grad_scalar",
        "hung",
    ]
    matrix = small_matrix(
        tiny_folder, methods=methods, plugins=[str(plugin)], controls={"draws": 0}
    )
    noting = Noting()
    options = RunOptions(workers=2, threads=1, cell_timeout=6)
    return run_matrix(matrix, folder / "run", noting, options), folder, noting


def test_a_killed_workers_cell_is_computed_by_another(
    unlucky: tuple[Outcome, Path, Noting], alone: Path
) -> None:
    outcome, folder, noting = unlucky
    done = {outcome.store.record(name).method: name for name in outcome.computed}
    assert len(done) == 2, [record.error for record in outcome.failed]
    once = next(name for label, name in done.items() if "once" in label)
    assert len(list((folder / "once").iterdir())) == 1
    assert sum("once" in label for label in noting.interruptions) == 1
    assert not any("grad_scalar" in label for label in noting.interruptions)
    same = outcome.store.read(done["grad_scalar"]).tensors
    found = outcome.store.read(once).tensors
    assert all((found[name] == same[name]).all() for name in ("scores", "split.test.ld"))


def test_what_kills_or_hangs_is_a_result_with_its_log(
    unlucky: tuple[Outcome, Path, Noting],
) -> None:
    outcome, folder, _ = unlucky
    errors = {error.kind: error for error in (one.error for one in outcome.failed) if error}
    assert errors.keys() == {"WorkerDiedError", "CellTimeoutError"}
    assert len(list((folder / "always").iterdir())) == 3
    assert errors["WorkerDiedError"].log.count("these are my last words") >= 3
    hung = errors["CellTimeoutError"]
    assert "unlucky.py" in hung.log  # where it was
    assert "in fit" in hung.log
    assert "limit of 6 s" in hung.message
    assert "--cell-timeout" in hung.message
    kept = [file.read_text() for file in (folder / "run" / "logs").iterdir()]
    assert sum(text.count("these are my last words") for text in kept) == 4


def test_no_scheduler_and_no_worker_are_one_sentence(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.execution.dask_cluster.CONNECT_SECONDS", 1)
    with pytest.raises(NoWorkerError, match="No dask scheduler answers"):
        run_matrix(
            small_matrix(tiny_folder),
            tmp_path / "run",
            options=RunOptions(scheduler="tcp://127.0.0.1:9"),
        )
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as empty:
        options = RunOptions(scheduler=empty.scheduler_address, patience=2)
        with pytest.raises(NoWorkerError, match=r"No worker is there within 2 s.*: none"):
            run_matrix(small_matrix(tiny_folder), tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


def test_a_scheduler_that_is_lost_ends_the_run_and_finished_cells_stay(
    tiny_folder: Path, tmp_path: Path, plugin: Path
) -> None:
    class Killing(Noting):
        def starting(self, cell: PlannedCell) -> None:
            super().starting(cell)
            if cell.method.name == "waiting":
                scheduled.close()

    noting = Killing()
    matrix = small_matrix(
        tiny_folder,
        methods=["grad_scalar", "waiting"],
        plugins=[str(plugin)],
        controls={"draws": 0},
    )
    with ExitStack() as scheduled, ExitStack() as working:
        address = scheduled.enter_context(scheduler(tmp_path, ROOT))
        working.enter_context(worker(address, "theirs", tmp_path, ROOT))
        with pytest.raises(NoWorkerError, match=r"the dask scheduler is lost\. Finished cells"):
            run_matrix(matrix, tmp_path / "run", noting, RunOptions(scheduler=address))
    assert len(noting.started) == 2
    assert len(RunStore.open(tmp_path / "run").ids()) == 1
