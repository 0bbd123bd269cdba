"""Workers are real processes; one is killed in the middle of a cell, one hangs."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context

import bench
from bench.execution.dask_cluster import NoWorkerError
from bench.execution.dask_worker import log_name
from bench.execution.run import Outcome, run_matrix
from bench.matrix.cells import PlannedCell
from bench.matrix.options import RunOptions
from bench.plugins import uninstall
from bench.store.records import CellRecord
from bench.store.results import RunStore, find_cell
from tests.bench.store.test_upkeep import numbers
from tests.dask_processes import Noting
from tests.small import brief_matrix, matrix_of, plug_in

KILLED = '''
import ctypes, os, signal, time
from pathlib import Path

def die(marks, times):
    """In the middle of a cell, so often."""
    marks = Path(marks)
    marks.mkdir(exist_ok=True)
    if len(list(marks.iterdir())) < times:
        (marks / str(time.time_ns())).touch()
        print("these are my last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
'''
HUNG = "ctypes.PyDLL(None).sleep(600)"
"""Waits in a call that keeps the GIL."""


def mine(file: Path, factor: int) -> str:
    """A plug-in with a method `mine` that says a number."""
    text = f"logging.getLogger('methods').warning('scaled by %g', {factor})"
    return plug_in(file, {"mine": text}, "import logging")


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
    whole: Path, tiny_folder: Path, tmp_path: Path, theirs: str
) -> None:
    noting, run, options = Noting(), tmp_path / "run", RunOptions(scheduler=theirs, threads=1)
    outcome = run_matrix(brief_matrix(tiny_folder), run, noting, options)
    assert not run_matrix(brief_matrix(tiny_folder), run, options=options).computed
    assert not outcome.failed
    assert numbers(run) == numbers(whole / "run")
    assert set(noting.started) == set(outcome.computed)
    assert len(noting.loaded) <= 2  # once a worker
    assert len({record.provenance["process"] for record in noting.records}) <= 2
    assert {record.provenance["threads"] for record in noting.records} == {1}
    logs = {file.name: file.read_text() for file in (run / "logs").iterdir()}
    assert logs.keys() <= {"0.log", "1.log"}
    assert "".join(logs.values()).count("starting") == len(outcome.computed)
    assert log_name("tcp://127.0.0.1:1") == "tcp-127.0.0.1-1.log"


class Late(Noting):
    """Starts another worker once the first cell is done, and takes its time until that has one."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__()
        self.cluster = cluster

    @property
    def workers(self) -> int:
        return len({record.provenance["worker"] for record in self.records})

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        super().finished(cell, record)
        if len(self.records) == 1:
            self.cluster.scale(3)
            self.cluster.wait_for_workers(3, timeout=60)
        if self.workers < 3:
            time.sleep(0.2)


def test_a_worker_that_comes_late_is_given_cells(
    tiny_folder: Path, tmp_path: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.execution.dask_cluster.LOOK_SECONDS", 0.1)
    matrix, late = matrix_of(tiny_folder, seeds=list(range(18))), Late(cluster)
    run_matrix(matrix, tmp_path / "run", late, RunOptions(scheduler=cluster.scheduler_address))
    assert late.workers == 3


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
        plugins = [mine(file, factor)]
        matrices.append(matrix_of(tiny_folder, "mine", plugins=plugins, seeds=[0, 1, 2]))
    ours, other = tmp_path / "2" / "run", tmp_path / "3" / "run"
    given = (matrices[1].model_dump(), str(other))
    beside = get_mp_context().Process(target=bench.run, args=given, kwargs={"scheduler": theirs})
    beside.start()
    run_matrix(matrices[0], ours, Meeting(other), RunOptions(scheduler=theirs))
    uninstall()
    beside.join(timeout=120)
    assert beside.exitcode == 0
    for factor, folder in ((2, ours), (3, other)):
        store = RunStore.open(folder)
        assert {store.record(name).status for name in store.ids()} == {"done"}
        told = "".join(file.read_text() for file in (folder / "logs").iterdir())
        assert f"WARNING methods: scaled by {factor}" in told
        assert f"scaled by {5 - factor}" not in told
    assert runs_on(theirs) == {0}


def test_files_of_tasks_and_plug_ins_travel_to_workers_that_do_not_see_them(
    tiny_folder: Path, tmp_path: Path, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere: a relative path means nothing there
    for name in ("mine", "other", "third"):
        clean, corrupted = "When John and Mary saw {}", "When Mary and John saw {}"
        pair = {"clean": clean, "corrupted": corrupted, "answer": " Mary", "foil": " John"}
        rows = [
            json.dumps({key: text.format(f"{name} {place}") for key, text in pair.items()})
            for place in range(8)
        ]
        Path(f"{name}.jsonl").write_text("\n".join(rows))
    mine(Path("mine.py"), 1)
    tasks = ["mine.jsonl", {"name": "mixture", "of": ["other.jsonl", "third.jsonl"]}]
    few = {"plugins": ["mine.py"], "prompts": {"train": 2, "test": 2, "shifted": 0}}
    matrix = matrix_of(tiny_folder, "mine", tasks=tasks, **few)
    outcome = run_matrix(matrix, "run", options=RunOptions(scheduler=theirs))
    assert not outcome.failed, [record.error for record in outcome.failed]
    tasks_of = [outcome.store.record(name).settings["task"] for name in outcome.computed]
    assert len(tasks_of) == 2
    assert "mine.jsonl" in [task.get("path") for task in tasks_of]  # as the matrix has it
    assert not run_matrix(matrix, "run").computed


def test_after_ctrl_c_nothing_of_the_run_is_left_on_workers(
    tiny_folder: Path, tmp_path: Path, theirs: str
) -> None:
    class Interrupting(Noting):
        def starting(self, cell: PlannedCell) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_matrix(
            matrix_of(tiny_folder), tmp_path / "run", Interrupting(), RunOptions(scheduler=theirs)
        )
    deadline = time.monotonic() + 60
    while runs_on(theirs) != {0} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert runs_on(theirs) == {0}


@pytest.fixture(scope="module")
def unlucky(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, forked_workers: None
) -> tuple[Outcome, Path, Noting]:
    folder = tmp_path_factory.mktemp("unlucky")
    how = {n: f"die({str(folder / n)!r}, {times})" for n, times in (("once", 1), ("always", 100))}
    plugins = [plug_in(folder / "unlucky.py", {**how, "hung": HUNG}, KILLED)]
    matrix = matrix_of(tiny_folder, *how, "grad_scalar", "hung", plugins=plugins)
    noting = Noting()
    options = RunOptions(workers=2, threads=1, cell_timeout=6)
    return run_matrix(matrix, folder / "run", noting, options), folder, noting


def test_a_killed_workers_cell_is_computed_by_another(
    unlucky: tuple[Outcome, Path, Noting], whole: Path
) -> None:
    outcome, folder, noting = unlucky
    done = {outcome.store.record(name).method: name for name in outcome.computed}
    assert len(done) == 2, [record.error for record in outcome.failed]
    assert len(list((folder / "once").iterdir())) == 1
    interrupted = [label for label, _ in noting.interruptions]
    assert interrupted.count("once") == 1
    assert "grad_scalar" not in interrupted
    store, name = find_cell("-grad_scalar-0", whole / "run")
    expected = store.read(name).tensors
    for label in ("once", "grad_scalar"):
        found = outcome.store.read(done[label]).tensors
        assert all((found[key] == expected[key]).all() for key in ("scores", "split.test.ld"))


def test_what_kills_or_hangs_is_a_result_with_its_log(
    unlucky: tuple[Outcome, Path, Noting],
) -> None:
    outcome, folder, _ = unlucky
    failed = {record.error.kind: record for record in outcome.failed if record.error}
    assert failed.keys() == {"WorkerDiedError", "CellTimeoutError"}
    assert len(list((folder / "always").iterdir())) == 3
    died, hung = (failed[name].error for name in ("WorkerDiedError", "CellTimeoutError"))
    assert died is not None
    assert died.log.count("these are my last words") >= 3
    assert hung is not None
    assert "unlucky.py" in hung.log  # where it was
    assert "in fit" in hung.log
    assert "limit of 6 s" in hung.message
    assert "--cell-timeout" in hung.message
    limits = {"cell_timeout": 6, "load_timeout": 3600}
    assert limits.items() <= failed["CellTimeoutError"].provenance.items()
    kept = [file.read_text() for file in (folder / "run" / "logs").iterdir()]
    assert sum(text.count("these are my last words") for text in kept) == 4


@pytest.mark.parametrize(
    ("who", "device", "words"),
    [
        ("nobody", "cpu", "No dask scheduler answers"),
        ("empty", "cpu", "No worker is there within 1 s.*: none"),
        ("theirs", "cuda", r"No worker computes on cuda .*\(cpu\)"),
    ],
)
def test_no_scheduler_no_worker_and_no_device_are_one_sentence(
    who: str, device: str, words: str, tiny_folder: Path, tmp_path: Path, theirs: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("bench.execution.dask_cluster.CONNECT_SECONDS", 1)
    models = [{"name": str(tiny_folder), "device": device}]
    with ExitStack() as stack:
        if who == "empty":
            local = LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None)
            address = stack.enter_context(local).scheduler_address
        else:
            address = theirs if who == "theirs" else "tcp://127.0.0.1:9"
        options = RunOptions(scheduler=address, patience=3 if who == "theirs" else 1)
        with pytest.raises(NoWorkerError, match=words):
            run_matrix(matrix_of(tiny_folder, models=models), tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()
