"""The files of a matrix's tasks, packed here and unpacked where the paths mean nothing."""

from pathlib import Path

import pytest

from bench.execution.suite_files import code_on_disk, differing, task_files, with_task_files
from bench.matrix.cells import expand
from bench.matrix.config import load_config
from bench.matrix.yaml_file import parse
from bench.store.records import content_of
from tasks.rows import MAX_FILE
from tests.small import small_matrix

ROW = '{"clean": "a b", "corrupted": "c d", "answer": " e", "foil": " f"}\n'


def ids(matrix: object) -> list[str]:
    cells = expand(parse(matrix, "test"), lambda name: name, lambda device: "cpu")  # type: ignore[arg-type]
    return [content_of(cell.id) for cell in cells]


def test_copies_make_the_same_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(("a.jsonl", "b.jsonl", "c.jsonl")):
        Path(name).write_text(ROW.replace("a b", f"a {place}"))
    matrix = small_matrix(
        "unused",
        tasks=[
            "a.jsonl",
            {"name": "mixture", "of": ["ioi", {"name": "file", "path": "b.jsonl"}, "c.jsonl"]},
        ],
        transfer=["c.jsonl", "ioi"],
        methods=["dyn_scalar"],
    ).model_dump()
    files = task_files(matrix)
    assert set(files) == {"a.jsonl", "b.jsonl", "c.jsonl"}
    here = ids(matrix)
    for name in files:
        Path(name).unlink()
    there = with_task_files(matrix, files, tmp_path / "copies")
    assert there["methods"] == matrix["methods"]
    assert ids(there) == here


def test_a_presets_own_file_is_sent() -> None:
    matrix = load_config("fig8").model_dump()
    (path,) = task_files(matrix)
    assert Path(path).name == "iphone.jsonl"


def test_what_no_task_can_be_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    matrix = {"tasks": [{"name": str(large)}, {"name": str(tmp_path / "none.jsonl")}]}
    assert task_files(matrix) == {}


def test_a_copy_stays_in_its_folder(tmp_path: Path) -> None:
    matrix = {"tasks": [{"name": "file", "path": "../../x/../out.jsonl"}]}
    there = with_task_files(matrix, {"../../x/../out.jsonl": b"1"}, tmp_path / "in")
    copy = Path(there["tasks"][0]["path"])
    assert copy.resolve().is_relative_to(tmp_path / "in")
    assert copy.read_bytes() == b"1"


def test_files_that_differ_are_named_and_line_endings_do_not_count(tmp_path: Path) -> None:
    for name, end in (("one", b"\n"), ("other", b"\r\n")):
        folder = tmp_path / name / "methods"
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "__pycache__" / "a.pyc").write_bytes(end)
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints" / f"{name}.py").touch()
        (folder / "a.py").write_bytes(b"x = 1" + end)
    one, other = code_on_disk(tmp_path / "one"), code_on_disk(tmp_path / "other")
    assert list(one) == ["methods/a.py"]
    assert differing(one, other) == ""
    for number in range(5):
        (folder / f"b{number}.py").touch()
    more = differing(one, code_on_disk(tmp_path / "other"))
    assert more == "methods/b0.py, methods/b1.py, methods/b2.py and 2 more"
