"""The files of a matrix's tasks, packed here and unpacked where the paths mean nothing."""

from pathlib import Path

import pytest
from bench.cluster.task_files import contents, unpacked
from bench.cluster.worker_logs import MAX_LINES, WorkerLogs

from bench.matrix.cells import expand
from bench.matrix.config import load_config
from bench.matrix.parse import parse
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
    files = contents(matrix)
    assert set(files) == {"a.jsonl", "b.jsonl", "c.jsonl"}
    here = ids(matrix)
    for name in files:
        Path(name).unlink()
    there = unpacked(matrix, files, tmp_path / "copies")
    assert there["methods"] == matrix["methods"]
    assert ids(there) == here


def test_a_presets_own_file_is_sent() -> None:
    matrix = load_config("fig8").model_dump()
    (path,) = contents(matrix)
    assert Path(path).name == "iphone.jsonl"


def test_what_no_task_can_be_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    matrix = {"tasks": [{"name": str(large)}, {"name": str(tmp_path / "none.jsonl")}]}
    assert contents(matrix) == {}


def test_a_copy_stays_in_its_folder(tmp_path: Path) -> None:
    matrix = {"tasks": [{"name": "file", "path": "../../x/../out.jsonl"}]}
    there = unpacked(matrix, {"../../x/../out.jsonl": b"1"}, tmp_path / "in")
    copy = Path(there["tasks"][0]["path"])
    assert copy.resolve().is_relative_to(tmp_path / "in")
    assert copy.read_bytes() == b"1"


def test_logs_are_kept_once_there_is_a_place_and_do_not_grow_for_ever(tmp_path: Path) -> None:
    logs = WorkerLogs()
    logs.add("tcp://10.0.0.1:4711", "early")
    logs.keep_in(tmp_path / "logs")
    logs.add("tcp://10.0.0.1:4711", "late\nlater")
    logs.count["tcp://10.0.0.1:4711"] = MAX_LINES
    logs.add("tcp://10.0.0.1:4711", "too late")
    text = (tmp_path / "logs" / "tcp-10.0.0.1-4711.log").read_text()
    assert [line.partition(" ")[2] for line in text.splitlines()] == ["early", "late", "later"]
    assert logs.tail("tcp://10.0.0.1:4711").endswith("too late")
    assert logs.tail("nobody") == ""
    logs.add("../../etc/passwd", "x")
    assert {file.name for file in (tmp_path / "logs").iterdir()} == {
        "tcp-10.0.0.1-4711.log",
        "etc-passwd.log",
    }
