"""The README's own matrix and commands, run as they stand there, on the embedded model."""

import re
from contextlib import chdir
from inspect import signature
from pathlib import Path

import pytest
from pandas import read_csv
from typer.testing import CliRunner

from bench.cli.app import app
from methods.core.points import Site
from reports import write
from reports.claims import CLAIMS
from reports.figures import FIGURES
from reports.text import MISSING

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^    python -m (.+)$", README, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the README's my.yaml, after the README's commands, in their order.

    Of the figures its reports draw two, as all have tests of their own.
    """
    folder = tmp_path_factory.mktemp("user")
    (matrix,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    (folder / "my.yaml").write_text(matrix)
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setattr(write, "FIGURES", {name: FIGURES[name] for name in ("answer", "maps")})
        for command in COMMANDS:
            if command.startswith("bench"):
                _, *arguments = command.split()
                run = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
                assert run.exit_code == 0, f"{command}\n{run.output}{run.exception}"
                (folder / f"{arguments[0]}.out").write_text(run.stdout)
    return folder


def test_the_commands_are_the_expected_ones() -> None:
    assert COMMANDS == [
        "pip install tox && tox -e quick",
        "pip install tox && tox",
        "pip install -c constraints.txt -e .",
        "bench list",
        "bench run my.yaml",
        "bench report results/my",
    ]


def test_the_readmes_matrix_runs_on_the_embedded_model(folder: Path) -> None:
    table = read_csv(folder / "results" / "my" / "results.csv")
    assert set(table["status"]) == {"done"}
    assert set(table["model"]) == {"smollm2-135m"}
    trained = table[table["trained"] & (table["split"] == "train")]
    # Five steps of ActivScalar at the last position steer better than no steering.
    assert (trained["E_0"] > trained["E_0_unsteered"]).all()
    assert "7 cells to compute" in (folder / "run.out").read_text()
    assert (folder / "results" / "my" / "report" / "index.html").is_file()


def test_the_page_on_numbers_names_every_site() -> None:
    page = (ROOT / "docs" / "reading.md").read_text("utf-8")
    for site in Site:
        assert f"`{site.value}`" in page


def test_its_links_and_pictures_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if not target.startswith("http")]
    assert len(local) >= 12
    assert not [target for target in local if not (ROOT / target).is_file()]


def test_the_table_of_claims_has_every_claim_and_its_verdict() -> None:
    page = (ROOT / "docs" / "paper.md").read_text("utf-8")
    (table,) = re.findall(r"^\| claim \| measured .*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in table.splitlines()]
    claims = [(claim.text, claim.quantity.replace("|", r"\|")) for claim in CLAIMS]
    assert [(text, measured) for text, measured, *_ in rows] == claims
    verdicts = {"holds", "does not hold", "cannot be said"}
    assert {own for _, _, _, _, own, _, _ in rows} <= verdicts
    for claim, (*_, there) in zip(CLAIMS, rows, strict=True):
        twice = not claim.no_price and "at_price" in signature(claim.measure).parameters
        assert there in (verdicts if twice else {MISSING}), claim.name


def test_its_table_of_results_is_that_of_the_published_page() -> None:
    (table,) = re.findall(r"^\| method \| kind .*\n\|.*\n((?:\|.*\n)+)", README, re.MULTILINE)
    published = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert table in published
