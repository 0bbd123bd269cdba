"""The whole report: files, and a page whose numbers are those of the store."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from bench.store.results import RunStore
from reports.figures import FIGURES
from reports.folder import MANIFEST, ReportFolder
from reports.latex import PAGE, latex
from reports.load import Results, load
from reports.present import formatted, strings
from reports.tables.change import PAPER, Changes
from reports.tables.leaderboard import leaderboard
from reports.write import ReportOptions, file_names, stem_of, write_report, write_table
from tasks.errors import UserInputError
from tests.reports.cells import HOSTILE, make_cell, make_failure, stored

PAIR_TABLES = (
    *("agreement", "leaderboard", "localisation", "paired", "price_curve", "retrained"),
    "sparsity",
)
FORMATS = ("csv", "pdf", "png", "svg")
VOID = {"meta", "img", "br", "link", "input", "source"}


class Page(HTMLParser):
    """Tags with their attributes, all text, and the rows of each table as texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & {*self.open}:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def page(index: Path) -> Page:
    return Page(index.read_text(encoding="utf-8"))


def test_every_file_is_there(index: Path) -> None:
    names = sorted(str(file.relative_to(index.parent)) for file in index.parent.rglob("*.*"))
    pairs = [f"smollm2-135m-{task}" for task in ("ccc", "hostile")]
    figures = [f"{kind}-{pair}" for kind in ("agreement", "leaderboard") for pair in pairs]
    figures += [f"stability-{pairs[1]}", "critical", "agreement_pooled-smollm2-135m"]
    tables = [f"{kind}-{pair}" for kind in PAIR_TABLES for pair in pairs]
    tables += [f"stability-{pairs[1]}", "agreement_pooled-smollm2-135m", "ranks", "missing"]
    tables += ["tasks-smollm2-135m"]
    assert names == sorted(
        [
            "index.html",
            "files.txt",
            *(f"figures/{name}.{kind}" for name in figures for kind in FORMATS),
            *(f"tables/{name}.{kind}" for name in tables for kind in ("csv", "md", "tex")),
        ]
    )


@pytest.mark.parametrize("task", ["ccc", "hostile"])
def test_every_output_has_the_same_numbers(
    results: Results, index: Path, page: Page, task: str
) -> None:
    """Page, Markdown and LaTeX print the same strings; the CSV has what they are made of."""
    board = leaderboard(results, "smollm2-135m", task)
    shown = formatted(board)
    table = index.parent / "tables" / f"leaderboard-smollm2-135m-{task}"
    markdown = table.with_suffix(".md").read_text("utf-8").replace("\\", "")
    tex = table.with_suffix(".tex").read_text("utf-8")
    exact = pd.read_csv(table.with_suffix(".csv"), keep_default_na=False, na_values=[""])
    boards = [one for one in page.tables if one[0][0].strip() == "method" and len(one[0]) > 9]
    on_page = boards[["ccc", "hostile"].index(task)]
    lines = shown.drop(columns="status").to_numpy().tolist()
    for line, row in zip(lines, on_page[1:], strict=True):
        cells = [" ".join(text.split()) for text in row]
        del cells[3]  # the small plot
        assert cells[1:] == line[1:]
    for value in shown["E₀ test (B)"]:
        assert f" {value} " in markdown
        assert value.split(" ")[0].replace("\u2212", "$-$").replace("\u2013", "--") in tex
    for name in ("E_0_test", "F_shifted", "beta_star", "E_0_train_low"):
        stored = ["" if one is None else "NaN" if one != one else str(one) for one in board[name]]
        printed = exact[name].astype(object).fillna("").astype(str).tolist()
        assert printed == stored, "undefined is not missing"


def test_the_page_tells_of_failures_notes_and_undefined_values_and_describes_its_figures(
    index: Path, page: Page
) -> None:
    for said in (
        "Cells without a result",
        "NumericalError: NaN in logits <script>alert(1)</script>\\x1b[31m",
        *("not meaningful", "undefined: constant", "left out", "dropped prompts"),
    ):
        assert said in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2 * 2 + 1 + 2
    assert all(image["alt"] for image in images)
    assert index.stat().st_size < 7_000_000


def test_nothing_on_the_page_reaches_out_and_only_its_own_script_acts(
    index: Path, page: Page
) -> None:
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "b", "form"}
    ids = {attributes.get("id") for _, attributes in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/svg+xml;base64,", "#"))
        target = attributes.get("href")
        assert target is None or target.removeprefix("#") in ids
    text = index.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "\x1b" not in text
    scripts = re.findall("<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in text.replace("&#39;", "'")
    data = '<script type="application/json"[^>]*>(.*?)</script>'
    blocks = re.findall(data, text, flags=re.DOTALL)
    assert [json.loads(block)["task"] for block in blocks[:-1]] == ["ccc", "hostile"]
    assert text.count("<script") == len(scripts) + len(blocks)
    assert HOSTILE[0] in page.text
    assert "\\x1b[31mred" in page.text


def test_an_empty_run_has_a_page_and_by_default_the_report_is_in_the_run(
    small_store: RunStore,
) -> None:
    assert "no readable cell" in write_report(small_store.directory).read_text()
    small_store.write(*make_failure("ccc", "dla"))
    for _ in ("written", "and again"):
        index = write_report(small_store.directory)
        assert index == small_store.directory / "report" / "index.html"
        assert "out of memory" in index.read_text()


def test_one_method_with_one_split_has_a_page_that_says_why_figures_are_missing(
    small_store: RunStore,
) -> None:
    record, _ = make_cell("ccc", "dla")
    metrics = [row for row in record.metrics if row.split == "train"]
    nothing = {"minimality": None, "provenance": {}, "prompts": {}, "grid": None}
    small_store.write(record.model_copy(update={"metrics": metrics, **nothing}), {})
    page = Page(write_report(small_store.directory).read_text())
    assert "E₀ train (A)" in page.text
    (said,) = re.findall("critical: (.+)", page.text)
    with pytest.raises(UserInputError) as error:
        FIGURES["critical"].figure(load(small_store.directory))
    assert said.strip() == str(error.value)


def test_the_page_says_how_many_prompts_where_cells_differ(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "attr_patch")
    fewer = record.prompts | {"train": record.prompts["train"][:1]}
    kept = [name for name in tensors if name.startswith("split.train.") and "beta" not in name]
    tensors |= {name: tensors[name][:1] for name in kept}
    other = (record.model_copy(update={"prompts": fewer}), tensors)
    stored(small_store, make_cell("ccc", "dla"), other)
    options = ReportOptions(figures=["critical"])
    text = write_report(small_store.directory, options=options).read_text()
    n_train, n_test = (len(record.prompts[split]) for split in ("train", "test"))
    assert f"train (A) 1 to {n_train} (varies between cells), test (B) {n_test}," in text


def test_what_cannot_be_written_or_read_is_said(run_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"run\.json"):
        write_report(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserInputError, match="is a file"):
        write_report(run_directory, tmp_path / "file")
    for wrong in ({"figures": ["leaderbord"]}, {"palette": "gray"}, {"methods": ["dlaa"]}):
        with pytest.raises(UserInputError, match="Did you mean"):
            write_report(run_directory, tmp_path / "wrong", ReportOptions(**wrong))


def test_file_names_are_safe_and_distinct() -> None:
    pairs = [("org/model", "ccc"), ("org_model", "ccc"), ("../..", "<x>")]
    names = file_names(pairs)
    assert [*names.values()] == ["org_model-ccc", "org_model-ccc-2", "-x"]
    stems = [stem_of("x", {"model": model}, names) for model, _ in pairs]
    assert stems == ["x-org_model", "x-org_model-2", "x"]
    long = [(f"/{'deep/' * 60}{model}", task) for model in "aA" for task in ("ccc", "ccc" * 90)]
    found = [name.casefold() for name in file_names(long).values()]
    assert len(set(found)) == 4
    assert max(map(len, found)) < 170


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_the_latex_tables_compile(index: Path, run_directory: Path, tmp_path: Path) -> None:
    results = load(run_directory)
    changes = Changes.of(results, results.only(methods=["dla", "activ_scalar"]))
    (tmp_path / "change").mkdir()
    files = lambda kind: tmp_path / "change" / f"change.{kind}"  # noqa: E731
    write_table(changes.frame, strings(changes.frame), files, "all", PAPER)
    every_letter = "".join(map(chr, (*range(32, 127), *range(0xA1, 0x100), 0x4E2D)))
    (tmp_path / "letters.tex").write_text(latex(pd.DataFrame({"a": [every_letter]})), "utf-8")
    hostile = latex(pd.DataFrame({"[1] task": ["[x].jsonl", "*", "[3pt]"], "n": ["1", "2", "3"]}))
    (tmp_path / "hostile.tex").write_text(hostile, "utf-8")
    long = "activ_scalar · lambda_f=0, lambda_m=0.001, margin=0"
    worst = [long, long.replace("=", "≥"), *["[0.123]"] * 4, "1.0000", f"behind the best; {long}"]
    head = ["method a", "method b", "difference", "low", "high", "p", "p holm", "verdict"]
    (tmp_path / "long.tex").write_text(latex(pd.DataFrame([worst] * 3, columns=head)), "utf-8")
    tables = [
        *sorted((index.parent / "tables").glob("*.tex")),
        *(tmp_path / f"{name}.tex" for name in ("letters", "hostile", "long")),
        tmp_path / "change" / "change.tex",
    ]
    assert len(tables) >= 11
    first_lines = {table.read_text("utf-8").partition("\n")[0] for table in tables}
    (preamble,) = (line.removeprefix("% preamble: ") for line in first_lines)
    inputs = "\n\n".join(
        rf"\sbox0{{\footnotesize \input{{{table}}}}}\typeout{{width of {table.stem}: \the\wd0}}"
        for table in tables
    )
    (tmp_path / "all.tex").write_text(
        rf"\documentclass{{article}}{preamble}\begin{{document}}{inputs}\end{{document}}"
    )
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Missing character" not in run.stdout
    widths = dict(re.findall(r"width of (\S+): ([\d.]+)pt", run.stdout.replace("\n", "")))
    assert len(widths) == len(tables)
    on_a_page = ("leaderboard", "paired", "agreement", "change", "long", "hostile")
    wide = {name for name, width in widths.items() if float(width) > PAGE}
    assert not [name for name in wide if name.startswith(on_a_page)], widths


def test_the_data_behind_a_figure_are_its_numbers_and_pictures_carry_their_letters(
    results: Results, index: Path
) -> None:
    figure = index.parent / "figures" / "leaderboard-smollm2-135m-ccc"
    stored_numbers = pd.read_csv(figure.with_suffix(".csv"))
    board = leaderboard(results, "smollm2-135m", "ccc")
    for name in ("", "_prompts_low"):
        expected = board[f"E_0_test{name}"].astype(float)
        np.testing.assert_array_equal(stored_numbers[f"E_0{name}"], expected)
    assert b"/FontFile2" in figure.with_suffix(".pdf").read_bytes()  # TrueType, embedded
    assert "<text" not in figure.with_suffix(".svg").read_text()


def test_options_narrow_a_report(run_directory: Path, tmp_path: Path) -> None:
    options = ReportOptions(
        tasks=["ccc"], methods=["dla"], figures=["leaderboard"], width=3.25, palette="grey"
    )
    folder = write_report(run_directory, tmp_path / "narrow", options).parent
    figures = sorted(file.name for file in (folder / "figures").iterdir())
    assert figures == [f"leaderboard-smollm2-135m-ccc.{kind}" for kind in FORMATS]
    board = pd.read_csv(folder / "tables" / "leaderboard-smollm2-135m-ccc.csv")
    assert set(board["method"]) == {"dla", "random"}


def test_a_report_removes_what_it_no_longer_writes_and_nothing_else(
    small_store: RunStore, tmp_path: Path
) -> None:
    small_store.write(*make_cell("ccc", "dla"))
    out = tmp_path / "report"
    write_report(small_store.directory, out, ReportOptions(figures=["leaderboard"]))
    mine = [out / "figures" / "mine.pdf", out / "tables" / "mine.tex", out / "notes.txt"]
    for file in mine:
        file.write_text("mine")
    before = {file for file in out.rglob("*") if file.is_file()}
    write_report(small_store.directory, out, ReportOptions(figures=["critical"]))
    after = {file for file in out.rglob("*") if file.is_file()}
    stem = "leaderboard-smollm2-135m-ccc"
    assert before - after == {out / "figures" / f"{stem}.{kind}" for kind in FORMATS}
    assert set(mine) < after <= before


def test_a_file_of_somebody_else_is_never_overwritten(
    small_store: RunStore, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("my site")
    with pytest.raises(UserInputError, match="no report wrote it"):
        write_report(small_store.directory, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == "my site"
    out = write_report(small_store.directory, tmp_path / "report").parent
    (out / "figures").mkdir(exist_ok=True)
    (out / "figures" / "note.svg").write_text("mine")
    with pytest.raises(UserInputError, match=r"note\.svg is there"):
        ReportFolder(out).file("figures/note.svg")


def test_the_manifest_names_files_of_the_report_alone_and_a_cut_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("x")
    folder = ReportFolder(tmp_path / "report")
    folder.file("tables/a.csv").write_text("1")
    manifest = folder.path / MANIFEST  # nobody called finish()
    assert (before := manifest.read_text()).split() == ["index.html", "tables/a.csv"]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.finish()
    assert manifest.read_text() == before
    manifest.write_text("tables/a.csv\n../secret\ntables/..\n/etc/passwd\nfigures/gone.png\ninde")
    again = ReportFolder(tmp_path / "report")
    assert "index.html" in manifest.read_text().split()
    assert again.finish() == [folder.path / "tables" / "a.csv"]
    assert (tmp_path / "secret").exists()
    assert (folder.path / "tables").is_dir()
