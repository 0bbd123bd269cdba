"""A tiny model and a task prepared for it."""

from pathlib import Path

import pytest

from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.models.load import LoadedModel, load_model
from methods.core.subject import SubjectModel
from tests.small import planned, small_matrix


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
