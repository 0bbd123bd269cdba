"""Code that only data names is not run: neither a matrix's nor a run's plug-in files."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import bench
from bench import plugins
from bench.execution.run import run_matrix
from bench.matrix.config import UntrustedPluginError, trusted
from bench.store.results import RunStore
from tests.bench.test_plugins import METHOD
from tests.command import command
from tests.small import brief_matrix

Shown = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_is_known() -> Iterator[None]:
    yield
    forget()


def forget() -> None:
    """No file is taken for one that was run before."""
    plugins.uninstall()
    for name in [name for name in sys.modules if name.startswith("attribution_bench_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A plug-in file that shows when it is run."""
    file = tmp_path / "evil.py"
    mark = f"from pathlib import Path\nPath({str(tmp_path / 'was-run')!r}).touch()\n"
    file.write_text(mark + METHOD.format(strength=1.0) + 'METHODS = {"mine": Mine}\n')
    return file


def was_run(evil: Path) -> bool:
    mark = evil.with_name("was-run")
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


def test_a_plug_in_that_a_matrix_names_is_run_once_the_user_names_it_too(
    evil: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    file = tmp_path / "theirs.yaml"
    matrix = brief_matrix(tiny_folder, methods=["mine"], plugins=[str(evil)], output="results/x")
    file.write_text(yaml.safe_dump(matrix.model_dump()))
    monkeypatch.chdir(tmp_path)
    for name in ("run", "plan"):
        assert command(monkeypatch, name, str(file)) == 2
        said = capsys.readouterr().err
        assert f"--plugin {evil}" in said
        assert "theirs.yaml" in said
    with pytest.raises(UntrustedPluginError):
        bench.run(file)
    assert not was_run(evil)
    assert command(monkeypatch, "plan", str(file), "--plugin", "evil.py") == 0
    assert was_run(evil)
    assert "mine" in capsys.readouterr().out


def test_a_plug_in_that_a_run_names_is_not_run_by_those_who_look(
    evil: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    """As if the run had come from another machine, where the file lay elsewhere."""
    run = tmp_path / "run"
    changes = {"methods": ["mine"], "controls": {"draws": 0}, "plugins": [str(evil)]}
    run_matrix(brief_matrix(tiny_folder, **changes), run)
    assert was_run(evil)
    forget()
    place = ["mine", "--results", str(run)]
    export = ["export", "mine", str(tmp_path / "a"), *place[1:]]
    for arguments in (
        ["status", str(run)], ["show", *place], ["report", str(run)], ["apply", *place], export
    ):  # fmt: skip
        assert command(monkeypatch, *arguments) == 0
    assert command(monkeypatch, "reproduce", *place) == 2
    assert f"--plugin {evil}" in capsys.readouterr().err
    assert not was_run(evil)
    (tmp_path / "here").mkdir()
    moved = shutil.move(evil, tmp_path / "here")
    assert command(monkeypatch, "reproduce", *place, "--plugin", moved) == 0
    assert was_run(evil)
    assert RunStore.open(run).config["plugins"] == [str(evil)]


def test_files_are_known_by_their_names() -> None:
    here = [Path("/here/a.py"), Path("/here/b.py")]
    assert trusted(["/there/a.py"], here, "it") == ["/here/a.py", "/here/b.py"]
    with pytest.raises(UntrustedPluginError, match=r"--plugin '/there/c d.py'"):
        trusted(["/there/a.py", "/there/c d.py"], here, "it")
