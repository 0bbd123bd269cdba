"""A tiny model and a task prepared for it."""

from pathlib import Path

import pytest

from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.matrix.cells import expand
from bench.models.load import LoadedModel, load_model
from methods.core.subject import SubjectModel
from tests.small import small_matrix


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), device="cpu")


@pytest.fixture(scope="session")
def prepared(tiny: LoadedModel, tiny_folder: Path) -> tuple[SubjectModel, PreparedTask]:
    matrix = small_matrix(tiny_folder)
    cell = expand(matrix, lambda name: "digest", lambda device: "cpu")[0]
    subject = SubjectModel(tiny.bridge)
    return subject, prepare_task(cell.task, cell, tiny, subject)
