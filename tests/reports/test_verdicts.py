"""The leaderboard says who differs from whom, and when nobody can tell."""

import numpy as np
import pandas as pd
import pytest

from bench.store.records import CellRecord
from bench.store.results import RunStore
from reports.load import Results
from reports.outcomes import outcomes
from reports.present import OVER_PROMPTS, formatted
from reports.statistics import holm, interval, sign_flip
from reports.tables import curves, paired, ranks, stability
from reports.tables.leaderboard import leaderboard
from reports.tables.paired import (
    A_DRAW_AS_GOOD,
    NO_SHARED_PROMPT,
    NOT_TOLD_APART,
    TOO_FEW,
    too_few,
)
from reports.tables.verdicts import BEATS
from reports.text import interval as interval_text
from tests.reports.cells import StoredCell, make_cell, stored, with_prompts

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def board(results: Results) -> pd.DataFrame:
    return leaderboard(results, MODEL, "ccc").set_index("method")


def test_prompts_average_to_the_stored_metrics(results: Results) -> None:
    for split in ("train", "test", "shifted"):
        for one in outcomes(results, MODEL, "ccc", split).values():
            for place, record in enumerate(one.records):
                kind = "one" if record.trained else "star"
                (row,) = (m for m in record.metrics if (m.split, m.beta_kind) == (split, kind))
                assert one.e_0[place].mean() == pytest.approx(row.E_0, abs=1e-6)
                assert one.f[place].mean() == pytest.approx(row.F, abs=1e-6)


def test_paired_rows_are_the_tests_of_the_stored_prompts(results: Results) -> None:
    known = outcomes(results, MODEL, "ccc")
    frame = paired.table(results, task="ccc")
    # 8 methods: every two, each with random, one with its own shuffled scores
    assert len(frame) == 28 + 8 + 1
    a, b = (
        np.stack([known[name].per_prompt for name in frame[f"method_{of}"]]) for of in ("a", "b")
    )
    np.testing.assert_allclose(frame["p"].astype(float), sign_flip(a - b), rtol=1e-12)
    np.testing.assert_allclose(frame["p_holm"].astype(float), holm(frame["p"]))
    row = frame.iloc[3]
    assert (row["low"], row["high"]) == interval((a - b)[3])
    told = frame[~frame["verdict"].isin([NOT_TOLD_APART, A_DRAW_AS_GOOD])]
    assert 0 < len(told) < len(frame)
    assert (told["p_holm"] < 0.05).all()
    better = told["method_a"].where(told["difference"] > 0, told["method_b"])
    assert told["verdict"].tolist() == better.tolist()


def test_the_leaderboard_judges_methods_not_controls(results: Results, board: pd.DataFrame) -> None:
    best, *others = board[~board["control"].astype(bool)]["against_best"]
    assert board.loc["random", ["against_best", "against_controls"]].isna().all()
    assert best.startswith("best")
    assert board.loc["steer_vec", "against_controls"] == "better than 5 of 5 draws"
    assert {"behind the best"} <= {*others} <= {"not told apart from the best", "behind the best"}
    shown = formatted(board.reset_index()).set_index("method")
    for label in ("dla", "random"):
        low, high = interval(outcomes(results, MODEL, "ccc")[label].per_prompt)
        assert board.loc[label, "E_0_test_prompts_low"] == low
        assert shown.loc[label, OVER_PROMPTS] == interval_text(low, high)
    assert board.loc["random", "E_0_test_seeds_low"] >= board.loc["random", "E_0_test_low"]
    assert np.isnan(board.loc["dla", "E_0_test_seeds_low"])


def test_with_few_prompts_nothing_is_told_and_nobody_is_best(small_store: RunStore) -> None:
    methods = ("dla", "attr_patch", "random")
    few = [with_prompts(make_cell("ccc", method), slice(3)) for method in methods]
    board = leaderboard(stored(small_store, *few)).set_index("method")
    said = f"{TOO_FEW} (3; 3 comparisons need 7)"
    assert board.loc["dla", "against_controls"] == said
    assert set(board["against_best"].dropna()) == {said}
    # 2^(1-n) times the comparisons has to be below 0.05
    assert too_few(12, 102) == too_few(30, 10_000_000) == ""
    assert too_few(12, 103) == f"{TOO_FEW} (12; 103 comparisons need 13)"
    assert too_few(5, 1) == f"{TOO_FEW} (5; 1 comparison needs 6)"


def test_an_undefined_value_is_no_tie(small_store: RunStore) -> None:
    dla = make_cell("ccc", "dla")
    dla[1]["split.test.ld"][:2] = np.nan
    others = [make_cell("ccc", method) for method in ("attr_patch", "activ_patch", "random")]
    results = stored(small_store, dla, *others)
    said = "undefined: E₀ of dla is no number on 2 of 12 prompts"
    frame = paired.table(results)
    of_dla = frame[(frame["method_a"] == "dla") | (frame["method_b"] == "dla")]
    assert set(of_dla["verdict"]) == {said}
    board = leaderboard(results).set_index("method")
    assert board.loc["dla", ["against_best", "against_controls"]].tolist() == [said, said]
    assert "dla" not in "".join(board["against_best"].drop("dla").dropna())
    ranked = ranks.table(results).set_index("method")
    assert ranked.loc["dla", "left_out"] == f"undefined result for {MODEL} · ccc"
    assert ranked["mean_rank"].notna().sum() == 3


def against_draws(store: RunStore, n_draws: int, *, as_good: int) -> Results:
    """A method beside draws of a control that do far worse, but for the first ones."""
    dla, *draws = (
        make_cell("ccc", name, draw=draw)
        for name, draw in [("dla", 0), *(("random", draw) for draw in range(n_draws))]
    )
    for draw, (_, tensors) in enumerate(draws):
        good = draw < as_good
        changed = dla[1]["split.test.ld"] + 0.1 if good else tensors["split.test.ld"] - 5.0
        tensors["split.test.ld"] = np.minimum(changed, 0)
    return stored(store, dla, *draws)


def test_a_control_whose_best_draw_does_as_well_is_not_beaten(small_store: RunStore) -> None:
    results = against_draws(small_store, 5, as_good=1)
    (row,) = paired.table(results).to_dict("records")
    assert row["p_holm"] < 0.05
    assert (row["draws_beaten"], row["verdict"]) == (0.8, A_DRAW_AS_GOOD)
    board = leaderboard(results).set_index("method")
    assert board.loc["dla", "against_controls"] == "not better than every draw of random"


@pytest.mark.parametrize(("n_draws", "said"), [(18, "better than 18 of 18 draws"), (19, BEATS)])
def test_it_takes_nineteen_draws_to_be_beaten_by_chance_once_in_twenty(
    small_store: RunStore, n_draws: int, said: str
) -> None:
    board = leaderboard(against_draws(small_store, n_draws, as_good=0)).set_index("method")
    assert board.loc["dla", "against_controls"] == said


def e_0(ld: np.ndarray, place: int) -> np.ndarray:
    """Of every prompt, from its LD at a strength and, in the next column, at minus that."""
    return np.minimum(ld[..., place], 0) + np.minimum(-ld[..., place + 1], 0)


def test_methods_are_compared_on_the_prompts_they_share(small_store: RunStore) -> None:
    dla = make_cell("ccc", "dla")
    backwards = with_prompts(make_cell("ccc", "attr_patch"), slice(8, None, -1))
    elsewhere = with_prompts(make_cell("ccc", "activ_patch"), foil_id=9)
    frame = paired.table(stored(small_store, dla, backwards, elsewhere))
    frame = frame.set_index(["method_a", "method_b"])
    row = frame.loc[("attr_patch", "dla")]
    assert row["n_prompts"] == 9
    here, there = backwards[1]["split.test.ld"][::-1], dla[1]["split.test.ld"][:9]
    apart = e_0(here, 3) - e_0(there, 3)
    assert row["difference"] == pytest.approx(apart.mean())
    assert row["p"] == pytest.approx(sign_flip(apart)[0])
    assert frame.loc[("activ_patch", "dla"), "verdict"] == NO_SHARED_PROMPT
    assert np.isnan(frame.loc[("activ_patch", "dla"), "p"])


def area_of(results: Results, record: CellRecord) -> float:
    assert record.sparsity is not None
    curve = e_0(results.small_tensors(record.id)["sparsity.ld"], 0).mean(axis=0)
    log_k = np.log(record.sparsity.k)
    return float(np.trapezoid(curve, log_k) / (log_k[-1] - log_k[0]))


def drawn(method: str, draw: int, seed: int) -> StoredCell:
    """A cell on another draw of prompts: of eight test prompts four are those of the one before."""
    record, tensors = with_prompts(make_cell("ccc", method, seed=seed), slice(8))
    tensors["split.test.ld"] = tensors["split.test.ld"] - 0.1 * draw - 0.01 * seed
    moved = {
        split: [
            p.model_copy(update={"answer_id": 500 + n + 4 * draw, "foil_id": 700 + n + 4 * draw})
            for n, p in enumerate(of)
        ]
        for split, of in record.prompts.items()
    }
    settings = record.settings | {"prompts": {"train": 4, "seed": draw}}
    changes = {"id": f"{method}-{draw}-{seed}", "prompts": moved, "settings": settings}
    return record.model_copy(update=changes), tensors


def test_draws_of_prompts_are_no_seeds_and_prompts_are_known_by_what_they_ask(
    small_store: RunStore,
) -> None:
    every = [(draw, seed) for draw in (0, 1) for seed in (0, 1, 2)]
    cells = [drawn(method, *of) for method in ("activ_scalar", "steer_vec") for of in every]
    results = stored(small_store, *cells)
    one = outcomes(results, MODEL, "ccc")["activ_scalar"]
    assert one.e_0.shape == (6, 12)
    assert one.seen.sum(axis=0).tolist() == [3] * 4 + [6] * 4 + [3] * 4
    assert len(one.per_seed) == 3
    expected = np.mean([e_0(tensors["split.test.ld"], 1) for _, tensors in cells[:6]])
    assert one.mean == pytest.approx(expected)
    assert one.weights @ one.per_prompt == pytest.approx(expected)
    (row,) = paired.table(results).to_dict("records")
    assert row["n_prompts"] == 12
    assert row["E_0_a"] == pytest.approx(expected)
    curve = curves.sparsity(results).set_index("method").loc["activ_scalar"]
    areas = [area_of(results, record) for record in one.records]
    assert curve["n_prompts"] == 12
    assert curve["area"] == pytest.approx(np.mean(areas))
    pairs = stability.table(results, task="ccc")
    assert len(pairs) == 2 * 2 * 3
    assert (pairs["seed_a"] < pairs["seed_b"]).all()
    assert set(pairs["prompts_seed"]) == {0, 1}


def test_ranks_need_every_block_and_say_what_they_leave_out(results: Results) -> None:
    frame = ranks.table(results).set_index("method")
    assert frame.loc["dla", "left_out"] == "no result for smollm2-135m · hostile"
    ranked = frame["mean_rank"].dropna()
    assert ranked.is_monotonic_increasing
    assert ranked.sum() == pytest.approx(len(ranked) * (len(ranked) + 1) / 2)
    assert set(frame["n_blocks"]) == {2}
    assert (frame["left_out"] == "").tolist() == frame["mean_rank"].notna().tolist()


def test_results_of_some_methods_keep_their_controls(results: Results) -> None:
    chosen = results.only(tasks=["ccc"], methods=["activ_patch", "dla"])
    denoising = "activ_patch[direction=denoising]"
    controls = {"random", "shuffled[of=activ_patch]"}
    assert {record.method for record in chosen.records} == {
        *("activ_patch", denoising, "dla"),
        *controls,
    }
    assert len(chosen.agreement) == 3
    only = results.only(methods=["dyn_scalar"]).records
    assert {record.method for record in only} == {"dyn_scalar", "random"}
