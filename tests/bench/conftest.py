"""A tiny model, a task prepared for it, and a small run."""

import shutil
from pathlib import Path

import pytest
import yaml

from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.execution.run import Outcome, run_matrix
from bench.matrix.options import RunOptions
from bench.models.load import LoadedModel, load_model
from methods.core.subject import SubjectModel
from tests.small import RunOf, brief_matrix, matrix_of, planned, small_matrix


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), device="cpu")


@pytest.fixture(scope="session")
def subject(tiny: LoadedModel) -> SubjectModel:
    return SubjectModel(tiny.bridge)


@pytest.fixture(scope="session")
def task(subject: SubjectModel, tiny: LoadedModel, tiny_folder: Path) -> PreparedTask:
    cell = planned(small_matrix(tiny_folder))[0]
    return prepare_task(cell.task, cell, tiny, subject)


@pytest.fixture(scope="session")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of four cells on one thread, and its matrix: `run`, `mine.yaml`."""
    folder = tmp_path_factory.mktemp("whole")
    matrix = brief_matrix(tiny_folder, output=str(folder / "run"))
    (folder / "mine.yaml").write_text(yaml.safe_dump(matrix.model_dump()))
    run_matrix(matrix, options=RunOptions(threads=1))
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(whole / "run", tmp_path / "run")
    text = (whole / "mine.yaml").read_text().replace(str(whole), str(tmp_path))
    (tmp_path / "mine.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def run_of(tiny_folder: Path, tmp_path: Path) -> RunOf:
    """Runs methods (`matrix_of`) on the tiny model, in a folder `run` or another one."""

    def run(
        *methods: object, to: str = "run", options: RunOptions | None = None, **changes: object
    ) -> Outcome:
        matrix = matrix_of(tiny_folder, *methods, **changes)
        return run_matrix(matrix, tmp_path / to, options=options)

    return run
