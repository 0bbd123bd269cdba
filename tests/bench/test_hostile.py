"""Untrusted input: configurations and stored results that mean harm end in an error, soon."""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.execution.run import run_matrix
from bench.matrix.cells import expand
from bench.matrix.config import load_config
from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import parse
from bench.store.layout import CELL_FILE, TENSOR_FILE
from bench.store.results import RunStore
from bench.store.upkeep import survey
from tasks.errors import UserInputError
from tests.small import brief_matrix


@contextmanager
def within(seconds: float, mebibytes: int) -> Iterator[None]:
    """The block takes no longer and no more memory at its peak than that."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < mebibytes * 1024


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LAUGHS.encode(), "aliases"),
        (b"models: " + b"[" * 20_000, "nested|not YAML"),
        (b"models: " + b"{a: " * 20_000, "nested|not YAML"),
        (b"a: &a [*a]\n", "in itself"),
        (b"models: [\xff\xfe]\n", "not YAML"),
        (b"models: !!python/object/apply:os.system [echo]\n", "not YAML"),
        (b"models: [\x00]\n", "not YAML"),
        (b"", "NoneType"),
        (b"- a\n- b\n", "not a mapping"),
        (b"models: [m]\ntasks: [ioi]\nmethods: [dla]\nobjective: {margin: .nan}\n", "margin"),
        (b"models: [m]\ntasks: [ioi]\nmethods: [dla]\nobjective: {lambda_f: .inf}\n", "finite"),
    ],
)
def test_hostile_yaml_is_refused_within_seconds(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with within(10, 200), pytest.raises(UserInputError, match=f"(?s)mine.yaml.*({words})"):
        load_config(file)


def test_a_line_of_100_megabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    with file.open("wb") as stream:
        for _ in range(100):
            stream.write(b"a" * 2**20)
    with within(2, 50), pytest.raises(UserInputError, match="104857600 bytes"):
        load_config(file)


def test_more_cells_than_can_be_are_refused_before_they_are_made() -> None:
    many = list(range(2000))
    matrix = brief_matrix("m", seeds=many, prompts={"train": [*range(1, 2000)], "seed": many})
    with within(20, 100), pytest.raises(UserInputError, match="more than 1000000"):
        expand(matrix, lambda name: "", lambda device: "cpu")


@pytest.mark.parametrize("grid", ["product", "alone"])
def test_a_methods_grid_is_counted_before_it_is_unrolled(grid: str, tmp_path: Path) -> None:
    """Three lists of 400 values: 64 million methods, or 1198 that vary one setting."""
    values = [*range(1, 401)]
    settings: dict[str, object] = {"epochs": values, "batch_size": values, "learning_rate": values}
    matrix = brief_matrix("m", methods=[{"name": "activ_scalar", **settings}], grid=grid)
    with within(10, 100):
        if grid == "alone":
            cells = expand(matrix, lambda name: "", lambda device: "cpu")
            assert len(cells) == 1198 + 1
        else:
            with pytest.raises(UserInputError, match="64000001 cells, more than 1000000"):
                expand(matrix, lambda name: "", lambda device: "cpu")


def test_a_task_that_is_listed_over_and_over_is_not_built_as_often() -> None:
    matrix = brief_matrix("m", tasks=["ioi"] * 20_000, methods=["dla"])
    with within(10, 100), pytest.raises(UserInputError, match="tasks: ioi stands there more than"):
        expand(matrix, lambda name: "", lambda device: "cpu")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["ioi", "dla", "m", "attn_out", "all", "../../x", "\x1b[2J", "<script>"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from([*Matrix.model_fields, "name"]) | st.text(max_size=10)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_mapping_is_a_matrix_or_a_sentence(changes: dict[str, Any]) -> None:
    base = {"models": ["m"], "tasks": ["ioi"], "methods": ["dla"], "controls": {"draws": 0}}
    try:
        cells = expand(parse({**base, **changes}, "it"), lambda name: "", lambda device: "cpu")
    except UserInputError:
        pass  # a sentence is what it should be
    else:
        for cell in cells:
            assert Path("cells", cell.id).parent == Path("cells")
            assert len(cell.id) <= 200


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_file_is_a_matrix_or_a_sentence(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    try:
        load_config(file)
    except UserInputError as error:
        said = str(error)
    else:
        said = "mine.yaml"
    assert "mine.yaml" in said


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    matrix = brief_matrix(tiny_folder, methods=["grad_scalar"], controls={"draws": 0})
    return run_matrix(matrix, tmp_path_factory.mktemp("hostile") / "run").store


@settings(deadline=None)
@given(content=st.binary(max_size=400), name=st.sampled_from([CELL_FILE, TENSOR_FILE]))
def test_any_file_in_the_place_of_a_stored_one_is_noticed(
    run: RunStore, content: bytes, name: str
) -> None:
    (cell_id,) = run.stored()
    file = run.cell_directory(cell_id) / name
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        assert str(file) in " ".join(survey(run).problems.values())
    finally:
        file.write_bytes(before)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_name_of_a_cell_stays_in_the_run(name: str) -> None:
    store = RunStore(Path("run"), {})
    try:
        directory = store.cell_directory(name)
    except ValueError:
        return
    assert directory.parent == Path("run/cells")


def test_a_model_of_a_hostile_name_writes_nothing_elsewhere(
    tiny_folder: Path, tmp_path: Path
) -> None:
    evil = tmp_path / "a\x1b[31m $(touch x) ..;<script>'\"=cmd"
    evil.symlink_to(tiny_folder)
    outcome = run_matrix(
        brief_matrix(evil, methods=["grad_scalar"], controls={"draws": 0}), tmp_path / "run"
    )
    assert len(outcome.computed) == 1
    assert {path.name for path in tmp_path.iterdir()} == {evil.name, "run"}
    (name,) = outcome.computed
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=,-")
    assert json.loads((tmp_path / "run" / "run.json").read_text())
