"""Workers that lack the suite, a package or a model, or have other code: refused and unharmed.

The scheduler that they belong to does not have the suite either.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import Client, Future

from bench.execution.cell_runner import Watcher
from bench.execution.dask_cluster import NoWorkerError
from bench.execution.run import Outcome, run_matrix
from bench.execution.run_spec import PACKAGES
from bench.matrix.cells import PlannedCell
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.models.load import MODELS
from bench.plugins import install
from bench.store.records import CellRecord
from bench.store.results import RunStore
from tasks.errors import UserInputError
from tests.bench.test_plugins import METHOD, package
from tests.dask_processes import ROOT, Noting, scheduler, without_suite, worker
from tests.small import matrix_of


@pytest.fixture(scope="module")
def their_package(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Path]:
    """A package with a method and a model, which this process has, and the worker `good`."""
    folder = tmp_path_factory.mktemp("packages")
    code = f"""{METHOD.format(strength=1.0)}
from pathlib import Path
from bench.models.load import ModelEntry
SMALL = ModelEntry("a small one", None, None, Path({str(tiny_folder)!r}))
"""
    points = {"methods": "mine = their_package:Mine", "models": "small-one = their_package:SMALL"}
    with pytest.MonkeyPatch.context() as patch:
        package(folder, "their-package", points, patch, code)
        install()
        yield folder


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the suite of which one method was changed."""
    folder = tmp_path_factory.mktemp("edited")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name)
    (folder / "reports").mkdir()
    shutil.copy(ROOT / "reports" / "__init__.py", folder / "reports")
    method = folder / "methods" / "grad_scalar.py"
    method.write_text(method.read_text() + "\nHALF = 0.5\n")
    return folder


@dataclass
class Theirs:
    """Somebody else's cluster, with what they have on it."""

    address: str
    client: Client
    result: Future
    closing: ExitStack


@pytest.fixture(scope="module")
def theirs(
    tmp_path_factory: pytest.TempPathFactory, edited: Path, their_package: Path
) -> Iterator[Theirs]:
    folder = tmp_path_factory.mktemp("elsewhere")
    bare = without_suite(tmp_path_factory.mktemp("bare"))
    with ExitStack() as stack:
        closing = stack.enter_context(ExitStack())
        address = closing.enter_context(scheduler(folder, bare))
        for name, path in (("bare", bare), ("edited", edited), ("plain", ROOT)):
            stack.enter_context(worker(address, name, folder, path))
        client = stack.enter_context(Client(address, timeout=120, set_as_default=False))
        client.wait_for_workers(3, timeout=120)
        yield Theirs(address, client, client.submit(abs, -3, workers=["bare"]), closing)


@pytest.fixture(scope="module")
def good(
    theirs: Theirs, their_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A worker that has everything; it comes with the first test that asks for it."""
    with worker(theirs.address, "good", tmp_path_factory.mktemp("good"), ROOT, their_package):
        theirs.client.wait_for_workers(4, timeout=120)
        yield


@pytest.fixture
def warm(theirs: Theirs) -> None:
    """Those who have the suite have imported what takes long."""
    code = "import bench.execution.dask_worker"
    for name in ("edited", "plain"):
        theirs.client.submit(exec, code, workers=[name], pure=False).result(timeout=120)


def unharmed(theirs: Theirs) -> bool:
    """Whether the worker without the suite is there, with what it held."""
    names = {worker["name"] for worker in theirs.client.scheduler_info()["workers"].values()}
    return {"bare", "edited", "plain"} <= names and theirs.result.result(timeout=30) == 3


def run_on(
    theirs: Theirs, matrix: Matrix, output: Path, noting: Watcher | None = None, patience: int = 100
) -> Outcome:
    options = RunOptions(scheduler=theirs.address, threads=1, patience=patience)
    return run_matrix(matrix, output, noting, options)


def test_workers_that_cannot_take_part_are_refused_by_name_and_live_on(
    theirs: Theirs, tiny_folder: Path, tmp_path: Path
) -> None:
    assert unharmed(theirs)
    with pytest.raises(NoWorkerError) as caught:
        run_on(theirs, matrix_of(tiny_folder, "mine"), tmp_path / "run")
    bare, edited, plain = sorted(str(caught.value).splitlines())
    assert 'The worker "bare" (tcp://' in bare
    assert "No module named 'bench'. The same attribution-bench" in bare
    assert 'The worker "edited" (tcp://' in edited
    assert "has other code of attribution-bench 0.1.0" in edited
    assert "(methods/grad_scalar.py)" in edited
    assert 'has no method "mine". The run was started with that of the package' in plain
    assert "their-package 1.5: install it there" in plain
    assert unharmed(theirs)
    assert not (tmp_path / "run").exists()


def test_a_model_that_no_worker_has_is_said_with_the_workers_name(
    theirs: Theirs, tmp_path: Path
) -> None:
    words = r'No worker has the model "small-one":\n  "plain" \(tcp.*: Unknown model "small-one"'
    with pytest.raises(UserInputError, match=words):
        run_on(theirs, matrix_of("small-one"), tmp_path / "run")


class Occupying(Noting):
    """Gives the worker of the first cell that is finished something else to do, until it `ends`."""

    def __init__(self, theirs: Theirs, folder: Path) -> None:
        super().__init__()
        self.theirs, self.end = theirs, folder / "end"
        self.task: Future | None = None

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        if self.task is None:
            place = [record.provenance["worker"]]
            wait = f"import os, time\nwhile not os.path.exists({str(self.end)!r}): time.sleep(0.1)"
            self.task = self.theirs.client.submit(exec, wait, workers=place)

    def ends(self) -> bool:
        """Whether there is still something else to do; there is not from here on."""
        assert self.task is not None
        busy = not self.task.done()
        self.end.touch()
        self.task.result(timeout=60)
        return busy


@pytest.mark.usefixtures("warm")
def test_a_run_does_not_wait_for_ever_behind_somebody_elses_work(
    theirs: Theirs, tiny_folder: Path, tmp_path: Path
) -> None:
    occupying, matrix = Occupying(theirs, tmp_path), matrix_of(tiny_folder, seeds=[0, 1, 2])
    with pytest.raises(NoWorkerError, match=r"within 5 s.*\(cpu, has not begun with its cell"):
        run_on(theirs, matrix, tmp_path / "run", occupying, patience=5)
    assert occupying.ends()


@pytest.mark.usefixtures("warm", "good")
@pytest.mark.parametrize(
    ("model", "methods", "refused"),
    [
        ("", ["mine", "grad_scalar"], ['"bare"', '"edited"', '"plain"']),
        ("small-one", ["grad_scalar"], ['"bare"', '"edited"']),
    ],
)
def test_cells_that_one_worker_can_compute_go_to_it_and_none_fails(
    model: str, methods: list[str], refused: list[str], theirs: Theirs, tiny_folder: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Workers without a package are refused; of those without a model others have the cells."""
    monkeypatch.delitem(MODELS, "small-one")  # not even the one who starts the run has it
    noting, matrix = Noting(), matrix_of(model or tiny_folder, *methods, seeds=[0, 1])
    outcome = run_on(theirs, matrix, tmp_path / "run", noting)
    assert not outcome.failed, [record.error for record in outcome.failed]
    assert sorted(text.split()[2] for text in noting.refusals) == refused
    assert len(noting.records) == 2 * len(methods)
    assert len({record.provenance["process"] for record in noting.records}) == 1


@pytest.mark.usefixtures("warm", "good")
def test_a_cell_behind_somebody_elses_work_goes_to_an_idle_worker(
    theirs: Theirs, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.execution.dask_executor.STUCK_SECONDS", 0.5)
    occupying, matrix = Occupying(theirs, tmp_path), matrix_of(tiny_folder, seeds=[*range(12)])
    outcome = run_on(theirs, matrix, tmp_path / "run", occupying)
    assert (len(outcome.computed), outcome.failed) == (12, [])
    assert occupying.ends()
    assert any("busy with something else" in why for _, why in occupying.interruptions)


@pytest.mark.usefixtures("warm", "good")
def test_a_scheduler_that_is_lost_ends_the_run_and_finished_cells_stay(
    theirs: Theirs, tiny_folder: Path, tmp_path: Path
) -> None:
    """The last of these tests: nothing of the cluster answers from here on."""

    class Killing(Noting):
        def finished(self, cell: PlannedCell, record: CellRecord) -> None:
            super().finished(cell, record)
            theirs.closing.close()

    noting, matrix = Killing(), matrix_of(tiny_folder, seeds=[*range(30)])
    with pytest.raises(NoWorkerError, match=r"the dask scheduler is lost\. Finished cells"):
        run_on(theirs, matrix, tmp_path / "run", noting)
    stored = RunStore.open(tmp_path / "run").ids()
    assert {record.id for record in noting.records} == set(stored)
    assert 1 <= len(stored) < 30
