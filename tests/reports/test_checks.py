"""Checks in tables and the leaderboard: what the cells store, and only where they store it."""

from typing import Any

import pytest

from bench.store.results import RunStore
from reports.load import Results, load
from reports.present import CHECKS, formatted
from reports.tables.checks import sanity, specificity
from reports.tables.leaderboard import leaderboard
from reports.text import MISSING
from tests.reports.cells import make_cell


def checks_of(seed: int) -> dict[str, Any]:
    """Of one map with the last layer permuted, with all, with other answers; of three prompts."""
    rhos = [("weights", 1, 0.9, 0.9), ("weights", 2, 0.1 + seed, 0.6), ("answers", 0, 0.3, 0.3)]
    row = {"shared": 0.25 + seed, "size": 2.0 + seed}
    rows = [
        {"what": what, "layers": layers, "rho": rho, "size_rho": size_rho, **row}
        for what, layers, rho, size_rho in rhos
    ]
    found = [("ccc", "own", 0.4), ("ioi", "task", 0.1), ("neutral text", "neutral", 0.02)]
    shown = [
        {"where": where, "kind": kind, "kl": kl * (1 + seed), "ld_change": 10 * kl}
        for where, kind, kl in found
    ]
    asked = {"n_prompts": 2, "positions": [1, 2], "n_points": 20, "shared_by_chance": 0.1}
    specific = [{"n_prompts": 2, "moved": 1.0, **one} for one in shown]
    return {"sanity": {**asked, "rows": rows}, "specificity": {"beta": 1.0, "rows": specific}}


@pytest.fixture
def stored(small_store: RunStore) -> Results:
    for seed in (0, 1):
        checks = checks_of(seed)
        small_store.write(*make_cell("ccc", "grad_scalar", seed=seed, **checks))
        del checks["sanity"]
        small_store.write(*make_cell("ccc", "activ_scalar", seed=seed, **checks))
    small_store.write(*make_cell("ccc", "random"))
    return load(small_store.directory)


def test_tables_have_the_means_of_what_cells_store(stored: Results) -> None:
    maps = sanity(stored)
    assert set(maps["method"]) == {"grad_scalar"}
    assert maps["map_changes"].tolist() == [None, "no", None]
    row = maps[maps["layers"] == 2].iloc[0]
    assert row[["rho", "size_rho", "shared", "size", "n_cells"]].tolist() == pytest.approx(
        [0.6, 0.6, 0.75, 2.5, 2]
    )
    asked = specificity(stored)
    assert set(asked["method"]) == {"grad_scalar", "activ_scalar"}
    of_one = asked[asked["method"] == "grad_scalar"].set_index("kind")
    assert of_one["where"].to_dict() == {"own": "ccc", "task": "ioi", "neutral": "neutral text"}
    assert of_one["kl"].tolist() == pytest.approx([0.6, 0.15, 0.03])
    assert of_one["kl_share"].tolist() == pytest.approx([1, 0.25, 0.05])
    assert of_one["ld_share"].tolist() == pytest.approx([1, 0.25, 0.05])


def test_the_leaderboard_has_columns_for_checks_where_there_were_some(
    stored: Results, results: Results
) -> None:
    shown = formatted(leaderboard(stored)).set_index("method")[[*CHECKS.values()]]
    assert shown.loc["grad_scalar"].tolist() == ["no", "0.150", "0.030"]
    assert shown.loc["activ_scalar"].tolist() == [MISSING, "0.150", "0.030"]
    assert shown.loc["random"].tolist() == [MISSING] * 3
    plain = formatted(leaderboard(results, "smollm2-135m", "ccc"))
    assert set(CHECKS.values()).isdisjoint(plain.columns)
    tidy = stored.table
    checked = tidy[tidy["method"] == "grad_scalar"]
    assert checked[["sanity_rho", "kl_elsewhere", "ld_change_neutral"]].notna().all().all()
    assert tidy[tidy["method"] == "random"]["kl_neutral"].isna().all()
