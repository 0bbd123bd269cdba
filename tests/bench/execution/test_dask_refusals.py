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
from bench.models.load import MODELS
from bench.plugins import install
from bench.store.records import CellRecord
from tasks.errors import UserInputError
from tests.bench.test_plugins import METHOD, package
from tests.dask_processes import ROOT, scheduler, without_suite, worker
from tests.small import small_matrix


class Refusals(Watcher):
    """Keeps who was refused."""

    def __init__(self) -> None:
        self.refusals: list[str] = []

    def refused(self, why: str) -> None:
        self.refusals.append(why)


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
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
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


@pytest.fixture(scope="module")
def theirs(
    tmp_path_factory: pytest.TempPathFactory, edited: Path, their_package: Path
) -> Iterator[Theirs]:
    folder = tmp_path_factory.mktemp("elsewhere")
    bare = without_suite(tmp_path_factory.mktemp("bare"))
    with ExitStack() as stack:
        address = stack.enter_context(scheduler(folder, bare))
        stack.enter_context(worker(address, "bare", folder, bare))
        stack.enter_context(worker(address, "edited", folder, edited))
        stack.enter_context(worker(address, "plain", folder, ROOT))
        client = stack.enter_context(Client(address, timeout=120, set_as_default=False))
        client.wait_for_workers(3, timeout=120)
        yield Theirs(address, client, client.submit(abs, -3, workers=["bare"]))


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


def test_workers_that_cannot_take_part_are_refused_by_name_and_live_on(
    theirs: Theirs, tiny_folder: Path, tmp_path: Path
) -> None:
    assert unharmed(theirs)
    options = RunOptions(scheduler=theirs.address, patience=100)
    matrix = small_matrix(tiny_folder, methods=["mine"], controls={"draws": 0})
    with pytest.raises(NoWorkerError) as caught:
        run_matrix(matrix, tmp_path / "run", options=options)
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
    options = RunOptions(scheduler=theirs.address, patience=100)
    matrix = small_matrix("small-one", methods=["grad_scalar"], controls={"draws": 0})
    words = r'No worker has the model "small-one":\n  "plain" \(tcp.*: Unknown model "small-one"'
    with pytest.raises(UserInputError, match=words):
        run_matrix(matrix, tmp_path / "run", options=options)


class Occupying(Refusals):
    """Gives the worker of the first cell that is finished something else to do, until it `ends`."""

    def __init__(self, theirs: Theirs, folder: Path) -> None:
        super().__init__()
        self.theirs, self.end = theirs, folder / "end"
        self.task: Future | None = None
        self.interruptions: list[str] = []

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        if self.task is None:
            place = [record.provenance["worker"]]
            wait = f"import os, time\nwhile not os.path.exists({str(self.end)!r}): time.sleep(0.1)"
            self.task = self.theirs.client.submit(exec, wait, workers=place)

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        self.interruptions.append(why)

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
    matrix = small_matrix(
        tiny_folder, methods=["grad_scalar"], seeds=[0, 1, 2], controls={"draws": 0}
    )
    occupying = Occupying(theirs, tmp_path)
    options = RunOptions(scheduler=theirs.address, threads=1, patience=10)
    with pytest.raises(NoWorkerError, match=r"within 10 s.*\(cpu, has not begun with its cell"):
        run_matrix(matrix, tmp_path / "run", occupying, options)
    assert occupying.ends()


def run_beside(
    theirs: Theirs, output: Path, model: object, methods: list[str]
) -> tuple[Outcome, list[str]]:
    """A run on a cluster of which only the worker `good` has everything, and who was refused."""
    matrix = small_matrix(str(model), methods=methods, seeds=[0, 1])
    noting = Refusals()
    options = RunOptions(scheduler=theirs.address, threads=1, patience=100)
    outcome = run_matrix(matrix, output, noting, options)
    assert not outcome.failed, [record.error for record in outcome.failed]
    return outcome, sorted(text.split()[2] for text in noting.refusals)


@pytest.mark.usefixtures("warm", "good")
def test_workers_without_a_package_fail_no_cell(
    theirs: Theirs, tiny_folder: Path, tmp_path: Path
) -> None:
    methods = ["mine", "grad_scalar"]
    outcome, refused = run_beside(theirs, tmp_path / "run", tiny_folder, methods)
    assert refused == ['"bare"', '"edited"', '"plain"']
    records = [outcome.store.record(name) for name in outcome.computed]
    assert len(records) == 2 * 5
    assert len({record.provenance["process"] for record in records}) == 1


@pytest.mark.usefixtures("warm", "good")
def test_cells_of_a_model_that_one_worker_lacks_go_to_another(
    theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(MODELS, "small-one")  # not even the one who starts the run has it
    outcome, refused = run_beside(theirs, tmp_path / "run", "small-one", ["grad_scalar"])
    assert refused == ['"bare"', '"edited"']
    assert len(outcome.computed) == 2 * 3


@pytest.mark.usefixtures("warm", "good")
def test_a_cell_behind_somebody_elses_work_goes_to_an_idle_worker(
    theirs: Theirs, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.execution.dask_executor.STUCK_SECONDS", 0.5)
    matrix = small_matrix(
        tiny_folder, methods=["grad_scalar"], seeds=list(range(12)), controls={"draws": 0}
    )
    occupying = Occupying(theirs, tmp_path)
    options = RunOptions(scheduler=theirs.address, threads=1, patience=60)
    outcome = run_matrix(matrix, tmp_path / "run", occupying, options)
    assert len(outcome.computed) == 12
    assert not outcome.failed
    assert occupying.ends()
    assert any("busy with something else" in why for why in occupying.interruptions)
