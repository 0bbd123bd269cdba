"""Plug-ins from real entry points and files; clashes and broken ones are named."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import plugins
from bench.conformance.methods import CHECKS
from bench.matrix.options import RunOptions
from bench.models import load as models
from bench.models.load import load_model, load_tokenizer
from bench.plugins import PluginError, install
from methods import METHODS
from tasks import TASKS
from tasks.errors import UserInputError
from tests.command import output_of
from tests.small import RunOf, matrix_of, planned

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
    run_of: RunOf, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    outcome = run_of("mine", models=["small-one"], tasks=["theirs"])
    (cell,) = outcome.computed
    record = outcome.store.record(cell)
    assert (record.model, record.task, record.method) == ("small-one", "theirs", "mine")
    assert len(record.settings["plugins"]) == 2
    for one in record.settings["plugins"]:
        assert one.startswith("the package their-package 1.5, files ")
    assert load_model("small-one").digest == record.settings["model"]["digest"]


def test_a_packages_code_is_part_of_what_a_cell_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version stays while it is worked on; a module that it only lies beside does not count.

    A folder with a model has that model's digest.
    """
    code = METHOD + "from pathlib import Path\nfrom bench.models.load import ModelEntry\n"
    code += "MODEL = ModelEntry('theirs', None, None, Path(__file__).parent / 'weights')\n"
    points = {"methods": "mine = theirs:Mine", "models": "mine = theirs:MODEL"}
    package(tmp_path, "theirs", points, monkeypatch, code)
    (tmp_path / "theirs.py").unlink()
    cells, entries = [], []
    for file, text in (
        ("theirs/__init__.py", code.format(strength=1.0)),
        ("theirs/inner/table.csv", "1"), ("theirs/inner/table.csv", "2"),
        ("theirs/inner/table.csv", "1"), ("other.py", ""),
        ("theirs/weights/model.safetensors", "1"),
        ("theirs/__init__.py", code.format(strength=2.0)),
    ):  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
        plugins.uninstall()
        install()
        found = planned(matrix_of("x", "mine", "dla"))
        cells.append([cell.id for cell in found])
        entries.append(models.MODELS["mine"].version)
    mine = [one for one, _ in cells]
    assert mine[1] == mine[3] == mine[4]
    assert len({*mine[:3], mine[5], mine[6]}) == 5
    assert entries[3] == entries[5] != entries[6]
    assert len({other for _, other in cells}) == 1  # the suite's own is what it was


def test_two_packages_with_one_name_are_both_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        points = {"methods": f"mine = {name}:Mine"}
        package(tmp_path / name, name, points, monkeypatch, METHOD.format(strength=1))
    with pytest.raises(PluginError, match=r"package (one|two) 1.5 adds.*package (one|two) 1.5"):
        install()


def test_a_files_method_is_known_by_its_code(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by the path that names it."""
    file, ids = tmp_path / "mine.py", set()
    monkeypatch.chdir(tmp_path)
    for strength, path in ((1.0, str(file)), (2.0, str(file)), (1.0, "mine.py")):
        file.write_text(METHOD.format(strength=strength) + 'METHODS = {"mine": Mine}\n')
        ids |= run_of("mine", plugins=[path]).store.stored()
    assert len(ids) == 2
    assert METHODS["mine"].summary == "Somebody else's method."
    assert METHODS["mine"].origin == f'the file "{file}"'


MODEL = """
from pathlib import Path
from bench.models.load import ModelEntry
MODELS = {{"mine": ModelEntry("theirs", None, {bos!r}, Path({folder!r}))}}
"""


def test_a_models_bos_and_code_are_part_of_what_a_cell_is(
    run_of: RunOf, tiny_folder: Path, tmp_path: Path
) -> None:
    """A cell is not taken over from a run in which the model had another BOS, nor from its folder
    by path, where it has none stated."""
    file, bos_ids, numbers = tmp_path / "mine.py", [], []

    def scores_of(outcome: Any, cell: str) -> float:
        return float(outcome.store.read(cell).tensors["scores"].sum())

    def run(model: str, place: str, *reuse: Path) -> Any:
        options = RunOptions(reuse=reuse)
        return run_of(models=[model], plugins=[str(file)], to=place, options=options)

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
    by_path = run(str(tiny_folder), "by-path", tmp_path / "run")
    assert (by_path.reused, len(by_path.computed)) == ([], 1)
    (cell,) = by_path.computed
    assert scores_of(by_path, cell) == numbers[0]
    assert by_path.store.record(cell).settings["model"].get("plugin") is None
    file.write_text(MODEL.format(bos=" the", folder=str(tiny_folder)) + "# other code\n")
    assert len(run("mine", "run").computed) == 1


def test_what_a_models_entry_names_is_looked_for_when_it_is_loaded(
    tiny_folder: Path, tmp_path: Path
) -> None:
    file, nowhere = tmp_path / "mine.py", tmp_path / "nowhere"
    for bos, folder, words in (
        ("<bos>", tiny_folder, 'states the BOS "<bos>", which is no token'),
        (None, nowhere, '"mine" of the file .*mine.py": there is no directory'),
    ):
        file.write_text(MODEL.format(bos=bos, folder=str(folder)))
        install([file])
        with pytest.raises(UserInputError, match=words):
            load_model("mine")


def test_a_new_method_passes_its_checks_and_runs(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "wrote my_method.py" in output_of("new-method", "my_method")
    shown = output_of("check", "my_method", "--plugin", "my_method.py")
    assert shown.count("passed  ") == len(CHECKS)
    few = {"plugins": ["my_method.py"], "sites": ["attn_out", "z"]}
    outcome = run_of("my_method", "grad_scalar", **few)
    mine, theirs = (outcome.store.read(name).tensors["scores"] for name in outcome.computed)
    assert mine == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(
    "name",
    ["class", "match", "_", "attribution", "true", "torch", "bench", "reports", "json", "pytest"],
)
def test_a_new_method_has_a_name_that_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f'"{name}" cannot be a method: ' in output_of("new-method", name, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dla"], 'There is a method "dla" already'),
        (["My Method"], "is not lower-case letters"),
        (["mine"], "mine.py is there already and stays as it is"),
        (["new", "--folder", "mine.py/inner"], "new.py cannot be written: Not a directory"),
    ],
)
def test_a_new_method_needs_a_place(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").touch()
    assert words in output_of("new-method", *arguments, code=2)
