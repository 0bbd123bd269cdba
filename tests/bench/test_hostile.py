"""Untrusted input: configurations and stored results that mean harm end in an error, soon."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.matrix.config import load_config
from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import parse
from tasks.errors import UserInputError
from tests.small import brief_matrix, planned


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


MANY = list(range(2000))
GRID = {key: [*range(1, 401)] for key in ("epochs", "batch_size", "learning_rate")}
SCALARS = {"methods": [{"name": "activ_scalar", **GRID}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": MANY, "prompts": {"train": MANY[1:], "seed": MANY}}, "more than 1000000"),
        (SCALARS, "64000001 cells, more than 1000000"),
        ({**SCALARS, "grid": "alone"}, None),  # 1198 that vary one setting, and a control
        ({"tasks": ["ioi"] * 20_000, "methods": ["dla"]}, "tasks: ioi stands there more than"),
    ],
)
def test_cells_are_counted_before_they_are_made(changes: dict[str, Any], words: str | None) -> None:
    matrix = brief_matrix("m", **changes)
    refused = pytest.raises(UserInputError, match=words)
    with within(20, 100), refused if words else nullcontext():
        assert len(planned(matrix)) == 1199


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


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_mapping_is_a_matrix_or_a_sentence(changes: dict[str, Any]) -> None:
    base = {"models": ["m"], "tasks": ["ioi"], "methods": ["dla"], "controls": {"draws": 0}}
    try:
        cells = planned(parse({**base, **changes}, "it"))
    except UserInputError:
        pass  # a sentence is what it should be
    else:
        for cell in cells:
            assert Path("cells", cell.id).parent == Path("cells")
            assert len(cell.id) <= 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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
