"""What a report says of methods at one price, on a run of a tiny model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import entropy

from bench.execution.run import run_matrix
from reports.figures.curves import localisation_data, price_data
from reports.load import Results, load
from reports.outcomes import Outcome, outcomes, outcomes_of_few_points
from reports.tables import curves
from reports.tables.curves import floor_of, least_price
from reports.tables.leaderboard import leaderboard
from reports.tables.paired import (
    PRICES_DIFFER,
    compared,
    e_0_at_price,
    prices_differ,
    rows_of,
)
from reports.tables.verdicts import BEATS, LOCALISES, against_controls
from tests.small import small_matrix

DRAWS = 20


@pytest.fixture(scope="module")
def results(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    matrix = small_matrix(
        tiny_folder,
        methods=["grad_scalar", {"name": "activ_scalar", "epochs": 2}],
        controls={"draws": DRAWS, "shuffles": 1},
        positions="last",
        prompts={"train": 2, "test": 8, "shifted": 0},
        prices={"at": [0.1, 0.3], "curve": True},
        localisation={"k": [1, 3]},
    )
    outcome = run_matrix(matrix, tmp_path_factory.mktemp("runs") / "run")
    assert not outcome.failed
    return load(outcome.store.directory)


def test_methods_are_ranked_at_the_main_price(results: Results) -> None:
    board = leaderboard(results).set_index("method")
    assert set(board["price"]) == {0.3}
    table = curves.prices(results).query("price == 0.3 and split == 'test'")
    for method, rows in table.groupby("method"):
        assert board.loc[method, "E_0_test"] == pytest.approx(rows["E_0"].mean())
        assert board.loc[method, "F_test"] == pytest.approx(-rows["paid"].mean())
    ranked = board["E_0_test"].astype(float)
    assert (ranked.diff().dropna() <= 0).all()
    star = board.loc["grad_scalar", "E_0_test_at_star"]
    record = next(one for one in results.records if one.method == "grad_scalar")
    stored = next(r.E_0 for r in record.metrics if (r.split, r.beta_kind) == ("test", "star"))
    assert star == pytest.approx(stored)


def test_prompts_average_to_what_is_ranked(results: Results) -> None:
    known = outcomes(results, *results.one())
    board = leaderboard(results).set_index("method")
    for label, one in known.items():
        assert one.mean == pytest.approx(board.loc[label, "E_0_test"], abs=1e-5)
        assert one.paid == pytest.approx(-board.loc[label, "F_test"], abs=1e-5)


def test_the_share_of_few_points_is_that_of_the_cell(results: Results) -> None:
    board = leaderboard(results).set_index("method")
    for record in results.records:
        assert record.localisation is not None
        if not record.control:
            share = board.loc[record.method, "localisation"]
            assert share == pytest.approx(record.localisation.area, abs=1e-5)
    few = localisation_data(results)
    assert set(few["k"]) == {1, 3}
    assert (price_data(results)["floor"] == floor_of(results, *results.one())).all()


def test_control_draws_taken_as_a_method_rarely_beat_the_others(results: Results) -> None:
    """Of exchangeable draws at most 5 % may pass, with all points and with few."""
    for found, words in ((outcomes, BEATS), (outcomes_of_few_points, LOCALISES)):
        draws = found(results, *results.one())["random"]
        assert len(draws.records) == DRAWS
        generator, passed = np.random.default_rng(0), 0
        for _ in range(200):
            mine, *others = generator.permutation(DRAWS)
            known = {"mine": part(draws, [mine], "mine"), "random": part(draws, others, "random")}
            rows = rows_of(results, *results.one(), known)
            passed += against_controls(known["mine"], known, rows, words) == words
        assert passed <= 10


def part(draws: Outcome, cells: list[int], label: str) -> Outcome:
    """Some draws of a control, as a method of interest if it is called `mine`."""
    changes = {"method": label, "control": label != "mine"}
    records = tuple(draws.records[cell].model_copy(update=changes) for cell in cells)
    columns = np.array(cells)
    numbers = (draws.seen[columns], draws.e_0[columns], draws.f[columns])
    return Outcome(label, records, draws.prompts, *numbers)


def test_e_0_at_a_price_is_that_of_the_stored_curve(results: Results) -> None:
    """At every price that was paid, and at the last one for all above."""
    one = outcomes(results, *results.one())["grad_scalar"]
    (record,) = one.records
    assert record.price_curve is not None
    paid = np.array(record.price_curve.paid)
    assert (np.diff(paid) > 0).sum() >= 3
    ld = results.small_tensors(record.id)["price_curve.ld"]
    stored = np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0)
    for place in np.flatnonzero(np.diff(paid, prepend=0) > 0):
        found = e_0_at_price(results, one, paid[place])
        np.testing.assert_allclose(found, stored[:, place], atol=1e-3)
    np.testing.assert_allclose(e_0_at_price(results, one, 100.0), stored[:, -1], atol=1e-6)


def test_a_difference_at_another_price_does_not_count(results: Results) -> None:
    """E_0 of one is far better, at three times the price; at a common price nothing is left."""
    one = outcomes(results, *results.one())["grad_scalar"]

    def against(price: float, **how: bool) -> dict[str, Any]:
        other = replace(one, label="other", e_0=one.e_0 * 0.01, f=one.f * price)
        assert prices_differ(one, other) == (price != 1)
        (row,) = rows_of(results, *results.one(), {one.label: one, other.label: other}, **how)
        return row

    assert against(3)["p_holm"] < 0.05
    assert against(3)["verdict"] == PRICES_DIFFER
    few = against(3, all_points=False)
    assert few["verdict"] == PRICES_DIFFER, "curves of all points say nothing of a few"
    cheap = against(1 / 3, all_points=False)
    assert cheap["verdict"] == "other", "what does better for less does so at any common price"
    assert against(1)["verdict"] == "other"
    assert {"paid_a", "paid_b"} <= set(compared(results, *results.one())[0])


@pytest.mark.parametrize("seed", range(4))
def test_no_distribution_with_equal_answers_is_nearer(seed: int) -> None:
    """Against a numerical search over all distributions with q(answer) = q(foil)."""
    p = np.random.default_rng(seed).dirichlet(np.ones(5))

    def divergence(logits: np.ndarray) -> float:
        q = softmax(np.append(logits[:1], logits))  # answer and foil alike
        return float(entropy(q, p))

    found = minimize(divergence, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    assert least_price(p[:1], p[1:2])[0] == pytest.approx(found.fun, abs=1e-6)
    assert least_price(p[:1], p[:1]).tolist() == [0], "an indifferent model is flipped for nothing"
