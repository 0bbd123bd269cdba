"""What is said of plug-ins that are broken: whose they are, what they lack, and in which line."""

import sys
from pathlib import Path

import pytest
import yaml

from bench import plugins
from bench.plugins import PluginError, install
from methods import METHODS
from tasks import TASKS
from tests.bench.test_plugins import METHOD, nothing_stays, package
from tests.command import output_of
from tests.small import RunOf, matrix_of

__all__ = ["nothing_stays"]

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
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "bad", {"methods": "mine = bad:Mine"}, monkeypatch, NO_FIT)
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump(matrix_of(tiny_folder, "mine").model_dump()))
    shown = output_of("run", file, "-o", tmp_path / "run", code=2)
    assert "Error: the package bad 1.5 adds the method" in shown
    shown = output_of("check", "mine", code=1)
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
    whole = f"package bad 1.5 has a broken.*{place}.*{words}"
    with pytest.raises(PluginError, match=whole) as told:
        install_and_load()
    assert "importlib" not in str(told.value)
    assert "limits.py" not in str(told.value)


def install_and_load() -> None:
    install()
    METHODS["mine"].load()


ENTRY = "from bench.models.load import ModelEntry\nMODELS = {'mm': %s}"
BROKEN_FILES = {
    "METHODS = {": "SyntaxError",
    "1 / 0": "line 1.*ZeroDivisionError",
    "x = 1": "adds nothing",
    "METHODS = 3": "has to be a dictionary",
    "METHODS = {'a b': int}": 'the name "a b"',
    "METHODS = {'mine': 3}": "has to be a class",
    "METHODS = {'dla': int}": "the suite itself has taken",
    "METHODS = {3: int}": "METHODS has to have names, and 3 is none",
    "import json\njson.loads('{')": "mine.py line 2",  # not the library's line
    ENTRY % "3": 'adds the model "mm".*has to be a bench.models.load.ModelEntry, not int',
    ENTRY % "ModelEntry('x', None)": "neither a hub_id nor a folder",
    ENTRY % "ModelEntry('x', None, folder='there')": "folder has to be a pathlib.Path or None",
    ENTRY % "ModelEntry('x', 'gpt2')": "hub_id has to be \"owner/name\", not 'gpt2'",
    ENTRY % "ModelEntry(None, 'a/b')": "summary has to be a string",
}


@pytest.mark.parametrize("code", BROKEN_FILES)
def test_broken_files_are_named(code: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    with pytest.raises(PluginError, match=r"mine.py cannot be read"):
        install([file])
    file.write_text(code)
    with pytest.raises(PluginError, match=f"(?s)mine.py.*{BROKEN_FILES[code]}"):
        install([file])


def test_two_classes_of_a_file_may_have_one_name(tmp_path: Path) -> None:
    """As those that a function makes."""
    code = "".join(METHOD.format(strength=n) + f"{'ab'[n]} = Mine\n" for n in range(2))
    (tmp_path / "two.py").write_text(code + "METHODS = {'first': a, 'second': b}\n")
    install([tmp_path / "two.py"])
    assert [METHODS[name].load()().strength for name in ("first", "second")] == [0, 1]


def test_a_cell_of_a_package_that_is_gone_names_it(run_of: RunOf, tmp_path: Path) -> None:
    code, points = METHOD.format(strength=1.0), {"methods": "mine = their_package:Mine"}
    with pytest.MonkeyPatch.context() as patch:
        package(tmp_path, "their-package", points, patch, code)
        run_of("mine")
    plugins.uninstall()
    sys.modules.pop("their_package", None)
    shown = output_of("reproduce", "mine", "--results", tmp_path / "run", code=2)
    assert "was computed with the package their-package 1.5, of which nothing is inst" in shown
