"""A run that somebody else made: links, pipes, huge files and escapes in it do nothing."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bench.store.layout import CELL_FILE, RUN_FILE, TENSOR_FILE, claim, only_writer, owner_of
from bench.store.results import CorruptRunError, RunStore
from bench.store.tables import CorruptTableError
from bench.store.upkeep import look, survey, tidy
from reports.folder import ReportFolder
from reports.write import write_report
from tasks.errors import UserInputError
from tests.bench.store.test_results import TENSORS, done
from tests.bench.test_hostile import within
from tests.command import output_of
from tests.small import matrix_of


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run of two cells with a table."""
    store = RunStore.create(tmp_path / "run", {"models": ["m"]})
    for name in ("a", "b"):
        store.write(done(name), TENSORS)
    store.write_frame("results", store.table())
    return store


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of the user's own, which has to stay as it is."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    return folder


def untouched(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return names == {"thesis.tex"} and (folder / "thesis.tex").read_text() == "mine"


def test_a_cell_that_is_a_link_is_set_aside_as_one(store: RunStore, elsewhere: Path) -> None:
    """Though what it leads to is a sound cell, with a file of the user's own in it."""
    cell = store.cell_directory("a")
    for file in cell.iterdir():
        shutil.copy(file, elsewhere)
    shutil.rmtree(cell)
    stray = cell.with_name("stray")
    for link in (cell, stray):
        link.symlink_to(elsewhere)
    with pytest.raises(UserInputError, match="symbolic link"):
        store.read("a")
    found = survey(store)
    assert list(found.problems) == [cell, stray]
    tidy(store, found)
    for link in (cell, stray):
        assert (store.directory / "set-aside" / link.name).is_symlink()
    assert (elsewhere / "thesis.tex").read_text() == "mine"
    assert store.ids() == ["b"]


@pytest.mark.parametrize("name", ["cells", "set-aside", "set-aside/reasons.jsonl", ".lock"])
def test_a_part_of_a_run_that_is_a_link_is_refused(
    store: RunStore, elsewhere: Path, name: str
) -> None:
    part = store.directory / name
    part.parent.mkdir(exist_ok=True)
    if name == "cells":
        shutil.rmtree(part)
    part.symlink_to(elsewhere)
    for action in (RunStore.open, look, lambda folder: claim(folder).__enter__()):
        with pytest.raises(UserInputError, match=f"{name} is a symbolic link"):
            action(store.directory)
    assert untouched(elsewhere)


def test_what_is_written_replaces_links_and_does_not_follow_them(
    store: RunStore, elsewhere: Path
) -> None:
    run, thesis = store.directory, elsewhere / "thesis.tex"
    for name in (f".writing-{os.getpid()}-run.json", f".writing-{os.getpid()}-.owner.json"):
        (run / name).symlink_to(thesis)
    (run / ".owner.json").symlink_to(thesis)
    (run / ".writing-left").symlink_to(elsewhere)
    with only_writer(run):
        tidy(*look(run))
        RunStore.create(run, {"models": ["other"]})
    assert untouched(elsewhere)
    assert RunStore.open(run).config == {"models": ["other"]}


def terabyte(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(2**40)


MAKERS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "endless": lambda file: file.symlink_to("/dev/zero"),
    "terabyte": terabyte,
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_no_file_of_the_suite_is_named_and_not_read(store: RunStore, kind: str) -> None:
    run, make = store.directory, MAKERS[kind]
    with within(5, 50):
        for cell, name in (("a", CELL_FILE), ("b", TENSOR_FILE)):
            file = store.cell_directory(cell) / name
            file.unlink()
            make(file)
            with pytest.raises(UserInputError, match=f"cells/{cell}/{name}"):
                store.read(cell)
            assert str(file) in " ".join(survey(store).problems.values())
        for name in ("results.parquet", "tables.json"):
            (run / name).unlink()
            make(run / name)
            with pytest.raises(CorruptTableError, match=name):
                store.tables.made_of()
        (run / RUN_FILE).unlink()
        make(run / RUN_FILE)
        with pytest.raises(CorruptRunError, match=RUN_FILE):
            RunStore.open(run)
        make(run / ".owner.json")
        assert owner_of(run) == "another process"


def test_who_writes_is_said_without_escapes(store: RunStore) -> None:
    owner = {"process": 1, "host": "\x1b[2J\x07", "since": "now"}
    (store.directory / ".owner.json").write_text(json.dumps(owner))
    assert owner_of(store.directory) == "process 1 on \\x1b[2J\\x07 since now"


def test_foreign_names_are_shown_without_escapes(tiny_folder: Path, tmp_path: Path) -> None:
    """A model's folder, a prompt file and an output folder whose names would clear the screen.

    The first one stays elsewhere what it is, and would act in a shell, a page and a spreadsheet.
    """
    folder = tmp_path / "their"
    folder.mkdir()
    evil, prompts = folder / "a\x1b[2J\x07 $(touch x) ..;<script>'\"=cmd", folder / "c\x1b[2J.jsonl"
    shutil.copytree(tiny_folder, evil)
    rows = [
        {"clean": f"When Mary{end}", "corrupted": f"When John{end}", "answer": a, "foil": " the"}
        for end, a in (("", " and"), (" and", " and"))
    ]
    prompts.write_text("\n".join(map(json.dumps, rows)))
    output, file = folder / "d\x1b[2J", folder / "mine.yaml"
    matrix = matrix_of(evil, tasks=["ioi", str(prompts)], output=str(output))
    file.write_text(yaml.safe_dump(matrix.model_dump()))
    before = {path.name for path in folder.iterdir()}
    for code, *arguments in (
        (0, "plan", file),
        (2, "run", file),
        (0, "status", output),
        (0, "show", "ioi", "-r", output),
        (0, "reproduce", "ioi", "-r", output),
        (0, "apply", "ioi", "-r", output),
        (2, "show", "grad_scalar", "-r", evil),
        (0, "rm", output, "--failed"),
        (0, "check", evil),
    ):
        assert output_of(*arguments, code=code), arguments
    assert {path.name for path in folder.iterdir()} == before | {output.name}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    (name,) = RunStore.open(output).stored()
    assert re.fullmatch("[A-Za-z0-9_=,-]+", name)
    assert json.loads((output / RUN_FILE).read_text())


def test_a_report_is_not_written_through_links(store: RunStore, elsewhere: Path) -> None:
    """The report of a run that brings a folder whose files are said to be a report's."""
    report, thesis = store.directory / "report", elsewhere / "thesis.tex"
    report.symlink_to(elsewhere)
    with pytest.raises(UserInputError, match="symbolic link"):
        write_report(store.directory)
    report.unlink()
    report.mkdir()
    (report / "files.txt").write_text("index.html\nfigures/a.csv\n")
    (report / "index.html").symlink_to(thesis)
    folder = ReportFolder(report)
    (report / "figures" / "a.csv").symlink_to(thesis)
    for name in ("index.html", "figures/a.csv"):
        folder.file(name).write_text("the report's")
    folder.finish()
    assert untouched(elsewhere)
    shutil.rmtree(report / "tables")
    (report / "tables").symlink_to(elsewhere)
    with pytest.raises(UserInputError, match="tables is a symbolic link"):
        ReportFolder(report)
    assert untouched(elsewhere)
