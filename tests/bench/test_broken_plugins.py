"""What is said of plug-ins that are broken: whose they are, what they lack, and in which line."""

import sys
from pathlib import Path

import pytest

from bench import plugins
from bench.execution.run import run_matrix
from bench.models.load import load_model
from bench.plugins import PluginError, install
from methods import METHODS
from tasks import TASKS
from tasks.errors import UserInputError
from tests.bench.cli.test_cli import command
from tests.bench.test_plugins import METHOD, nothing_stays, package
from tests.small import brief_matrix

__all__ = ["nothing_stays"]

Shown = pytest.CaptureFixture[str]

NO_METHOD = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    "No method."
"""
NO_FIT = """
from methods.method import Method

class Mine(Method):
    "Nothing is in it."
"""
NO_TASK = """
from dataclasses import dataclass

class Mine:
    "Nothing is in it."
    def entities(self):
        return []
"""


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("method", NO_METHOD, r"line 4\).*it has to be a subclass of methods.method.Method\. "),
        ("method", NO_FIT, r"line 4\).*it has no fit\(\); it has to be a dataclass"),
        ("method", "def Mine(): ...", "Mine is not a class"),
        (
            "task",
            NO_TASK,
            r"line 4\).*no method probe\(\); .*no method candidates\(\); .*name = .*a dataclass",
        ),
    ],
)
@pytest.mark.parametrize("by", ["package", "file"])
def test_what_a_class_lacks_is_said_when_it_is_loaded(
    by: str, kind: str, code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"method": METHODS, "task": TASKS}[kind]
    if by == "package":
        package(tmp_path, "bad", {f"{kind}s": "mine = bad:Mine"}, monkeypatch, code)
        install()
    elif "def Mine" in code:
        return  # said when the file is run
    else:
        (tmp_path / "bad.py").write_text(code + f'{kind.upper()}S = {{"mine": Mine}}\n')
        install([tmp_path / "bad.py"])
    origin = "the package bad 1.5" if by == "package" else r"the file .*bad.py"
    whole = f'(?s)^{origin}.* adds the {kind} "mine".*{words}.*`python -m bench check mine`'
    with pytest.raises(PluginError, match=whole):
        table["mine"].load()


def test_a_run_and_a_check_say_it_without_a_traceback(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    package(tmp_path, "bad", {"methods": "mine = bad:Mine"}, monkeypatch, NO_FIT)
    (tmp_path / "my.yaml").write_text(
        f"models: [{tiny_folder}]\ntasks: [ioi]\nmethods: [mine]\ncontrols: {{draws: 0}}\n"
    )
    assert command(monkeypatch, "run", str(tmp_path / "my.yaml")) == 2
    assert "Error: the package bad 1.5 adds the method" in capsys.readouterr().err
    assert command(monkeypatch, "check", "mine") == 1
    shown = capsys.readouterr().out
    assert "it has no fit(); it has to be a dataclass" in shown
    assert "PluginError" not in shown


@pytest.mark.parametrize(
    ("kind", "target", "code", "place", "words"),
    [
        ("models", "bad:Mine", "x = 1\ndef (", "bad.py line 2", "SyntaxError"),
        ("methods", "bad:Mine", "import os\nexit(3)", "bad.py line 2", r"raised SystemExit\(3\)"),
        ("models", "bad:Missing", "x = 1", r"bad:Missing, \S*bad.py", "has no attribute 'Missing'"),
        ("methods", "nowhere:Mine", "", r"\(nowhere:Mine\)", "No module named 'nowhere'"),
    ],
)
def test_an_error_points_at_the_plug_ins_own_line(
    kind: str, target: str, code: str, place: str, words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    package(tmp_path, "bad", {kind: f"mine = {target}"}, monkeypatch, code)
    with pytest.raises(
        PluginError, match=f"package bad 1.5 has a broken.*{place}.*{words}"
    ) as said:
        install_and_load()
    assert "importlib" not in str(said.value)
    assert "limits.py" not in str(said.value)


def install_and_load() -> None:
    install()
    METHODS["mine"].load()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("3", "has to be a bench.models.load.ModelEntry, not int"),
        ("ModelEntry('x', None)", "neither a hub_id nor a folder"),
        ("ModelEntry('x', None, folder='there')", "folder has to be a pathlib.Path or None"),
        ("ModelEntry('x', 'gpt2')", "hub_id has to be \"owner/name\", not 'gpt2'"),
        ("ModelEntry(None, 'a/b')", "summary has to be a string"),
    ],
)
def test_what_a_model_lacks_is_said(entry: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        f"from bench.models.load import ModelEntry\nMODELS = {{'mm': {entry}}}\n"
    )
    with pytest.raises(PluginError, match=f'bad.py" adds the model "mm".*{words}'):
        install([tmp_path / "bad.py"])


def test_the_folder_of_a_model_is_looked_for_when_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nfrom bench.models.load import ModelEntry\n"
        f"MODELS = {{'mm': ModelEntry('x', None, folder=Path({str(tmp_path / 'nowhere')!r}))}}\n"
    )
    install([tmp_path / "mine.py"])
    with pytest.raises(UserInputError, match=r'"mm" of the file .*mine.py": there is no directory'):
        load_model("mm")


def test_two_classes_of_a_file_may_have_one_name(tmp_path: Path) -> None:
    """As those that a function makes."""
    code = "".join(METHOD.format(strength=n) + f"{'ab'[n]} = Mine\n" for n in range(2))
    (tmp_path / "two.py").write_text(code + "METHODS = {'first': a, 'second': b}\n")
    install([tmp_path / "two.py"])
    assert [METHODS[name].load()().strength for name in ("first", "second")] == [0, 1]


def test_a_cell_of_a_package_that_is_gone_names_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    with monkeypatch.context() as inner:
        package(tmp_path, "their-package", {"methods": "mine = their_package:Mine"}, inner,
                METHOD.format(strength=1.0))  # fmt: skip
        matrix = brief_matrix(tiny_folder, methods=["mine"], controls={"draws": 0})
        run_matrix(matrix, tmp_path / "run")
    plugins.uninstall()
    sys.modules.pop("their_package", None)
    capsys.readouterr()
    assert command(monkeypatch, "reproduce", "mine", "--results", str(tmp_path / "run")) == 2
    shown = capsys.readouterr().err
    assert "was computed with the package their-package 1.5, of which nothing is inst" in shown
