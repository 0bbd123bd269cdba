"""What workers have to have in common with a run: files that differ are named."""

from pathlib import Path

from bench.execution.run_spec import code_on_disk, differing


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
