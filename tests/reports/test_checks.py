"""Checks in tables and the leaderboard: what the cells store, and only where they store it."""

from pathlib import Path

import pytest

from bench.execution.run import run_matrix
from reports.load import Results, load
from reports.present import CHECKS, formatted
from reports.tables.checks import sanity, specificity
from reports.tables.leaderboard import leaderboard
from reports.text import MISSING
from tests.small import brief_matrix

TRAINED = "activ_scalar[epochs=1]"


@pytest.fixture(scope="module")
def results(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    matrix = brief_matrix(
        tiny_folder,
        tasks=["ioi", "ccc"],
        methods=["grad_scalar", {"name": "activ_scalar", "epochs": 1}],
        controls={"draws": 1, "shuffles": 0},
        prompts={"train": 2, "test": 2, "shifted": 0},
        seeds=[0, 1],
        sanity={"depths": 2},
        specificity={"prompts": 2, "windows": 2},
    )
    outcome = run_matrix(matrix, tmp_path_factory.mktemp("runs") / "run")
    assert not outcome.failed
    return load(outcome.store.directory)


def test_tables_have_the_means_of_what_cells_store(results: Results) -> None:
    (records,) = [
        [one for one in results.of(*pair) if one.method == "grad_scalar"]
        for pair in results.pairs_of(None, "ioi")
    ]
    maps = sanity(results, task="ioi")
    assert set(maps["method"]) == {"grad_scalar"}
    deepest = maps[maps["map_changes"].notna()]
    rows = [one.sanity.deepest for one in records if one.sanity]
    (found,) = deepest.to_dict("records")
    for name in ("rho", "size_rho", "shared", "size"):
        assert found[name] == pytest.approx(sum(getattr(row, name) for row in rows if row) / 2)
    assert found["n_cells"] == 2
    asked = specificity(results, task="ioi")
    assert set(asked["method"]) == {"grad_scalar", TRAINED}
    of_one = asked[asked["method"] == "grad_scalar"].set_index("kind")
    assert of_one["where"].to_dict() == {"own": "ioi", "task": "ccc", "neutral": "neutral text"}
    assert of_one["kl_share"]["own"] == of_one["ld_share"]["own"] == 1
    stored = [row.kl for one in records if one.specificity for row in one.specificity.of("task")]
    assert of_one["kl"]["task"] == pytest.approx(sum(stored) / 2)
    assert of_one["kl_share"]["task"] == pytest.approx(of_one["kl"]["task"] / of_one["kl"]["own"])


def test_the_leaderboard_has_columns_for_checks_where_there_were_some(
    results: Results, run_directory: Path
) -> None:
    board = leaderboard(results, *results.pairs()[0])
    shown = formatted(board).set_index("method")
    assert set(CHECKS.values()) <= set(shown.columns)
    assert shown["map changes"]["grad_scalar"] in ("yes", "in sign alone", "no")
    assert shown["map changes"][TRAINED] == shown["KL elsewhere"]["random"] == MISSING
    assert float(shown["KL neutral"][TRAINED]) >= 0
    plain = formatted(leaderboard(load(run_directory), "smollm2-135m", "ccc"))
    assert set(CHECKS.values()).isdisjoint(plain.columns)
    tidy = results.table
    checked = tidy[tidy["method"] == "grad_scalar"]
    assert checked[["sanity_rho", "kl_elsewhere", "ld_change_neutral"]].notna().all().all()
    assert tidy[tidy["method"] == "random"]["kl_neutral"].isna().all()
