"""Plug-ins from real entry points and files; clashes and broken ones are named."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import plugins
from bench.conformance.methods import CHECKS
from bench.execution.run import Outcome, run_matrix
from bench.matrix.cells import expand
from bench.matrix.options import RunOptions
from bench.models import load as models
from bench.models.load import load_model, load_tokenizer
from bench.plugins import PluginError, install
from bench.store.results import RunStore
from methods import METHODS
from tasks import TASKS
from tasks.errors import UserInputError
from tests.bench.cli.test_cli import command
from tests.small import brief_matrix

METHOD = '''
from dataclasses import dataclass
from methods.grad_scalar import GradScalar

@dataclass(frozen=True)
class Mine(GradScalar):
    """Somebody else's method."""
    strength: float = {strength}
'''


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = dict(METHODS), dict(TASKS), dict(models.MODELS)
    yield
    plugins.uninstall()
    assert before == (METHODS, TASKS, models.MODELS)


def package(
    folder: Path, name: str, points: dict[str, str], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """An installed package, as pip leaves it: a module, and entry points in its metadata."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    groups = "".join(f"[attribution_bench.{group}]\n{line}\n" for group, line in points.items())
    (info / "entry_points.txt").write_text(groups)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, module, raising=False)


def test_a_packages_method_task_and_model_run_in_a_matrix(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        METHOD.format(strength=1.0)
        + f'''
from pathlib import Path
from tasks.ioi import IOI
from bench.models.load import ModelEntry

@dataclass(frozen=True)
class Theirs(IOI):
    """Somebody else's task."""
    name = "theirs"

SMALL = ModelEntry("a small one", None, None, Path({str(tiny_folder)!r}))
'''
    )
    points = {
        "methods": "mine = their_package:Mine",
        "tasks": "theirs = their_package:Theirs",
        "models": "small-one = their_package:SMALL",
    }
    package(tmp_path, "their-package", points, monkeypatch, code)
    install()
    install()
    assert METHODS["mine"].summary == "from the package their-package 1.5"
    matrix = brief_matrix(
        tiny_folder, models=["small-one"], tasks=["theirs"], methods=["mine"],
        controls={"draws": 0},
    )  # fmt: skip
    outcome = run_matrix(matrix, tmp_path / "run")
    (cell,) = outcome.computed
    record = outcome.store.record(cell)
    assert (record.model, record.task, record.method) == ("small-one", "theirs", "mine")
    code = record.settings["plugins"]
    assert len(code) == 2
    assert all(one.startswith("the package their-package 1.5, files ") for one in code)
    assert load_model("small-one").digest == record.settings["model"]["digest"]


def test_a_packages_code_is_part_of_what_a_cell_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version stays while it is worked on; a module that it only lies beside does not count."""
    ids = []
    package(tmp_path, "theirs", {"methods": "mine = theirs:Mine"}, monkeypatch, METHOD)
    (tmp_path / "theirs.py").unlink()
    (tmp_path / "theirs" / "inner").mkdir(parents=True)
    init, table = tmp_path / "theirs" / "__init__.py", tmp_path / "theirs" / "inner" / "table.csv"
    init.write_text(METHOD.format(strength=1.0))
    for file, text in (
        (table, "1"), (table, "2"), (table, "1"), (tmp_path / "other.py", ""),
        (init, METHOD.format(strength=2.0)),
    ):  # fmt: skip
        file.write_text(text)
        plugins.uninstall()
        install()
        matrix = brief_matrix("x", methods=["mine", "dla"], controls={"draws": 0})
        ids.append([cell.id for cell in expand(matrix, lambda name: "", lambda device: "cpu")])
    mine = [one for one, _ in ids]
    assert mine[0] == mine[2] == mine[3]
    assert len(set(mine)) == 3
    assert len({other for _, other in ids}) == 1  # the suite's own is what it was


def test_two_packages_with_one_name_are_both_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        points = {"methods": f"mine = {name}:Mine"}
        package(tmp_path / name, name, points, monkeypatch, METHOD.format(strength=1))
    with pytest.raises(PluginError, match=r"package (one|two) 1.5 adds.*package (one|two) 1.5"):
        install()


def test_a_files_method_is_known_by_its_code(tiny_folder: Path, tmp_path: Path) -> None:
    file, ids = tmp_path / "mine.py", set()
    for strength in (1.0, 2.0, 1.0):
        file.write_text(METHOD.format(strength=strength) + 'METHODS = {"mine": Mine}\n')
        matrix = brief_matrix(
            tiny_folder, methods=["mine"], plugins=[str(file)], controls={"draws": 0}
        )
        run_matrix(matrix, tmp_path / "run")
        ids |= RunStore.open(tmp_path / "run").stored()
    assert len(ids) == 2
    assert METHODS["mine"].summary == "Somebody else's method."


MODEL = """
from pathlib import Path
from bench.models.load import ModelEntry
MODELS = {{"mine": ModelEntry("theirs", None, {bos!r}, Path({folder!r}))}}
"""


def test_a_models_bos_and_code_are_part_of_what_a_cell_is(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """A cell is not taken over from a run in which the model had another BOS, nor from its folder
    by path, where it has none stated."""
    file, bos_ids, numbers = tmp_path / "mine.py", [], []

    def scores_of(outcome: Outcome, cell: str) -> float:
        return float(outcome.store.read(cell).tensors["scores"].sum())

    def run(model: str, place: str, *reuse: str) -> Outcome:
        matrix = brief_matrix(
            tiny_folder, models=[model], methods=["grad_scalar"], plugins=[str(file)],
            controls={"draws": 0},
        )  # fmt: skip
        options = RunOptions(reuse=tuple(tmp_path / run for run in reuse))
        return run_matrix(matrix, tmp_path / place, options=options)

    for bos in (None, " the", " the"):
        file.write_text(MODEL.format(bos=bos, folder=str(tiny_folder)))
        outcome = run("mine", "run")
        for cell in outcome.computed:
            record = outcome.store.record(cell)
            bos_ids.append(record.provenance["bos_id"])
            numbers.append(scores_of(outcome, cell))
            assert record.settings["model"].get("bos") == bos
    assert len(outcome.known) == 1
    assert bos_ids == [0, load_tokenizer(str(tiny_folder))[0].convert_tokens_to_ids(" the")]
    assert len(set(numbers)) == 2
    by_path = run(str(tiny_folder), "by-path", "run")
    assert (by_path.reused, len(by_path.computed)) == ([], 1)
    (cell,) = by_path.computed
    assert scores_of(by_path, cell) == numbers[0]
    assert by_path.store.record(cell).settings["model"].get("plugin") is None
    file.write_text(MODEL.format(bos=" the", folder=str(tiny_folder)) + "# other code\n")
    assert len(run("mine", "run").computed) == 1


def test_a_model_whose_bos_is_no_token_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MODEL.format(bos="<bos>", folder=str(tiny_folder)))
    install([file])
    with pytest.raises(UserInputError, match='states the BOS "<bos>", which is no token'):
        load_model("mine")


def test_of_a_packages_model_its_folder_is_known_by_the_models_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from pathlib import Path\nfrom bench.models.load import ModelEntry\n"
    code += "MINE = ModelEntry('theirs', None, None, Path(__file__).parent / 'weights')\n"
    package(tmp_path, "theirs", {"models": "mine = theirs:MINE"}, monkeypatch, "")
    (tmp_path / "theirs.py").unlink()
    (tmp_path / "theirs" / "weights").mkdir(parents=True)
    versions = []
    for name, text in (
        ("__init__.py", code), ("weights/model.safetensors", "1"), ("more.py", ""),
    ):  # fmt: skip
        (tmp_path / "theirs" / name).write_text(text)
        install()
        versions.append(models.MODELS["mine"].version)
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("METHODS = {", "SyntaxError"),
        ("1 / 0", "line 1.*ZeroDivisionError"),
        ("x = 1", "adds nothing"),
        ("METHODS = 3", "has to be a dictionary"),
        ("METHODS = {'a b': int}", 'the name "a b"'),
        ("METHODS = {'mine': 3}", "has to be a class"),
        ("METHODS = {'dla': int}", "the suite itself has taken"),
        ("METHODS = {3: int}", "METHODS has to have names, and 3 is none"),
        ("import json\njson.loads('{')", "mine.py line 2"),  # not the library's line
        ("MODELS = {'m': 3}", "ModelEntry"),
    ],
)
def test_broken_files_are_named(code: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(PluginError, match=f"(?s)mine.py.*{words}"):
        install([tmp_path / "mine.py"])


def test_a_file_may_be_named_by_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("METHODS = {'mine': int}")
    monkeypatch.chdir(tmp_path)
    install(["mine.py", tmp_path / "mine.py"])
    assert METHODS["mine"].origin == f'the file "{tmp_path / "mine.py"}"'


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(PluginError, match=r"nowhere.py cannot be read"):
        install(["nowhere.py"])


Shown = pytest.CaptureFixture[str]


def test_a_new_method_passes_its_checks_and_runs(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "new-method", "my_method") == 0
    assert "wrote my_method.py" in capsys.readouterr().out
    assert command(monkeypatch, "new-method", "my_method") == 2
    assert command(monkeypatch, "new-method", "dla") == 2
    assert command(monkeypatch, "new-method", "My Method") == 2
    capsys.readouterr()
    assert command(monkeypatch, "check", "my_method", "--plugin", "my_method.py") == 0
    shown = capsys.readouterr().out
    assert shown.count("passed  ") == len(CHECKS)
    matrix = brief_matrix(
        tiny_folder, methods=["my_method", "grad_scalar"], plugins=["my_method.py"],
        sites=["attn_out", "z"], controls={"draws": 0},
    )  # fmt: skip
    outcome = run_matrix(matrix, tmp_path / "run")
    mine, theirs = (outcome.store.read(name).tensors["scores"] for name in outcome.computed)
    assert mine == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(
    "name",
    ["class", "match", "_", "attribution", "true", "torch", "bench", "reports", "json", "pytest"],
)
def test_a_new_method_has_a_name_that_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "new-method", name) == 2
    assert f'"{name}" cannot be a method: ' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_new_method_needs_a_folder_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "inner")
    assert command(monkeypatch, "new-method", "my_method", "--folder", folder) == 2
    assert "my_method.py cannot be written: Not a directory" in capsys.readouterr().err
