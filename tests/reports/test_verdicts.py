"""The leaderboard says who differs from whom, and when nobody can tell."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.store.records import CellRecord
from bench.store.results import RunStore
from reports.load import Results, load
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
    undefined,
)
from reports.text import interval as interval_text
from tests.reports.conftest import make_cell

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
    a = np.stack([known[name].per_prompt for name in frame["method_a"]])
    b = np.stack([known[name].per_prompt for name in frame["method_b"]])
    np.testing.assert_allclose(frame["p"].astype(float), sign_flip(a - b), rtol=1e-12)
    np.testing.assert_allclose(frame["p_holm"].astype(float), holm(frame["p"]))
    row = frame.iloc[3]
    assert (row["low"], row["high"]) == interval((a - b)[3])
    told = frame[~frame["verdict"].isin([NOT_TOLD_APART, A_DRAW_AS_GOOD])]
    assert 0 < len(told) < len(frame)
    for _, row in told.iterrows():
        assert row["p_holm"] < 0.05
        better = row["method_a"] if row["difference"] > 0 else row["method_b"]
        assert row["verdict"] == better


def test_the_leaderboard_judges_methods_not_controls(board: pd.DataFrame) -> None:
    methods = board[~board["control"].astype(bool)]
    assert board.loc["random", ["against_best", "against_controls"]].isna().all()
    assert methods["against_best"].iloc[0].startswith("best")
    assert methods.loc["steer_vec", "against_controls"].startswith("better than")
    assert set(methods["against_best"].iloc[1:]) <= {
        "not told apart from the best",
        "behind the best",
    }
    assert "behind the best" in set(methods["against_best"])


def test_intervals_stand_in_the_board_and_as_text(results: Results, board: pd.DataFrame) -> None:
    known = outcomes(results, MODEL, "ccc")
    for label in ("dla", "random"):
        low, high = interval(known[label].per_prompt)
        assert board.loc[label, "E_0_test_prompts_low"] == low
        shown = formatted(board.reset_index()).set_index("method")
        assert shown.loc[label, OVER_PROMPTS] == interval_text(low, high)
    assert board.loc["random", "E_0_test_seeds_low"] >= board.loc["random", "E_0_test_low"]
    assert np.isnan(board.loc["dla", "E_0_test_seeds_low"])


OF_TEST = ("split.test.ld", "split.test.kl", "sparsity.ld", "sparsity.kl")


def first_prompts(
    cell: tuple[CellRecord, dict[str, Any]], count: int
) -> tuple[CellRecord, dict[str, Any]]:
    """The cell as it would be with fewer test prompts."""
    record, tensors = cell
    fewer = {
        name: tensor[:count] if name in OF_TEST else tensor for name, tensor in tensors.items()
    }
    prompts = record.prompts | {"test": record.prompts["test"][:count]}
    return record.model_copy(update={"prompts": prompts}), fewer


def test_with_few_prompts_nothing_is_told_and_nobody_is_best(small_store: RunStore) -> None:
    for method in ("dla", "attr_patch", "random"):
        small_store.write(*first_prompts(make_cell("ccc", method), 3))
    board = leaderboard(load(small_store.directory)).set_index("method")
    said = f"{TOO_FEW} (3; 3 comparisons need 7)"
    assert board.loc["dla", "against_controls"] == said
    assert set(board["against_best"].dropna()) == {said}


def test_many_comparisons_are_told_with_enough_prompts() -> None:
    # 2^(1-n) times the comparisons has to be below 0.05
    assert too_few(12, 102) == ""
    assert too_few(12, 103) == f"{TOO_FEW} (12; 103 comparisons need 13)"
    assert too_few(30, 10_000_000) == ""
    assert too_few(5, 1) == f"{TOO_FEW} (5; 1 comparison needs 6)"


def test_an_undefined_value_is_no_tie(small_store: RunStore) -> None:
    for method in ("dla", "attr_patch", "activ_patch", "random"):
        record, tensors = make_cell("ccc", method)
        if method == "dla":
            tensors["split.test.ld"][:2] = np.nan
        small_store.write(record, tensors)
    results = load(small_store.directory)
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
    assert undefined(a=np.zeros(3)) == ""


def test_a_control_whose_best_draw_does_as_well_is_not_beaten(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "dla")
    small_store.write(record, tensors)
    for draw in range(5):
        control, stored = make_cell("ccc", "random", draw=draw)
        worse = stored["split.test.ld"] - (0.0 if draw == 0 else 5.0)
        if draw == 0:
            worse = tensors["split.test.ld"] + 0.1
        small_store.write(control, stored | {"split.test.ld": np.minimum(worse, 0)})
    (row,) = paired.table(load(small_store.directory)).to_dict("records")
    assert row["p_holm"] < 0.05
    assert row["draws_beaten"] == 0.8
    assert row["verdict"] == A_DRAW_AS_GOOD
    board = leaderboard(load(small_store.directory)).set_index("method")
    assert board.loc["dla", "against_controls"] == "not better than every draw of random"


def test_methods_are_compared_on_the_prompts_they_share(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "dla")
    small_store.write(record, tensors)
    other, values = first_prompts(make_cell("ccc", "attr_patch"), 9)
    turned = other.prompts | {"test": other.prompts["test"][::-1]}
    backwards = {n: values[n][::-1] for n in ("split.test.ld", "split.test.kl")}
    small_store.write(other.model_copy(update={"prompts": turned}), values | backwards)
    elsewhere, third = make_cell("ccc", "activ_patch")
    strange = [p.model_copy(update={"foil_id": 9}) for p in elsewhere.prompts["test"]]
    moved = {"prompts": elsewhere.prompts | {"test": strange}}
    small_store.write(elsewhere.model_copy(update=moved), third)
    frame = paired.table(load(small_store.directory)).set_index(["method_a", "method_b"])
    row = frame.loc[("attr_patch", "dla")]
    assert row["n_prompts"] == 9
    here, there = (
        np.minimum(one["split.test.ld"][:9, 3], 0) + np.minimum(-one["split.test.ld"][:9, 4], 0)
        for one in (values, tensors)
    )
    assert row["difference"] == pytest.approx(here.mean() - there.mean())
    assert row["p"] == pytest.approx(sign_flip(here - there)[0])
    assert frame.loc[("activ_patch", "dla"), "verdict"] == NO_SHARED_PROMPT
    assert np.isnan(frame.loc[("activ_patch", "dla"), "p"])


def _ids(number: int) -> dict[str, int]:
    return {"answer_id": 500 + number, "foil_id": 700 + number}


def area_of(results: Results, record: CellRecord) -> float:
    assert record.sparsity is not None
    ld = results.small_tensors(record.id)["sparsity.ld"]
    e_0 = (np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0)).mean(axis=0)
    log_k = np.log(record.sparsity.k)
    return float(np.trapezoid(e_0, log_k) / (log_k[-1] - log_k[0]))


def drawn(method: str, draw: int, seed: int) -> tuple[CellRecord, dict[str, Any]]:
    """A cell on another draw of prompts: of eight test prompts four are those of the one before."""
    record, tensors = first_prompts(make_cell("ccc", method, seed=seed), 8)
    tensors = tensors | {"split.test.ld": tensors["split.test.ld"] - 0.1 * draw - 0.01 * seed}
    moved = {
        split: [p.model_copy(update=_ids(n + 4 * draw)) for n, p in enumerate(of)]
        for split, of in record.prompts.items()
    }
    changes = {
        **{"id": f"{method}-{draw}-{seed}", "prompts": moved},
        "settings": record.settings | {"prompts": {"train": 4, "seed": draw}},
    }
    return record.model_copy(update=changes), tensors


def test_draws_of_prompts_are_no_seeds_and_prompts_are_known_by_what_they_ask(
    small_store: RunStore,
) -> None:
    for method in ("activ_scalar", "steer_vec"):
        for draw in (0, 1):
            for seed in (0, 1, 2):
                small_store.write(*drawn(method, draw, seed))
    results = load(small_store.directory)
    one = outcomes(results, MODEL, "ccc")["activ_scalar"]
    assert one.e_0.shape == (6, 12)
    assert one.seen.sum(axis=0).tolist() == [3] * 4 + [6] * 4 + [3] * 4
    assert len(one.per_seed) == 3
    cells = [results.small_tensors(record.id)["split.test.ld"] for record in one.records]
    expected = np.mean([(np.minimum(c[:, 1], 0) + np.minimum(-c[:, 2], 0)) for c in cells])
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


def test_ranks_need_every_block(results: Results) -> None:
    frame = ranks.table(results).set_index("method")
    assert frame.loc["dla", "left_out"] == "no result for smollm2-135m · hostile"
    assert np.isnan(frame.loc["dla", "mean_rank"])
    ranked = frame["mean_rank"].dropna()
    assert ranked.is_monotonic_increasing
    assert ranked.sum() == pytest.approx(len(ranked) * (len(ranked) + 1) / 2)
    assert set(frame["n_blocks"]) == {2}


def test_results_of_some_methods_keep_their_controls(results: Results) -> None:
    chosen = results.only(tasks=["ccc"], methods=["activ_patch", "dla"])
    assert {record.method for record in chosen.records} == {
        "activ_patch",
        "activ_patch[direction=denoising]",
        "dla",
        "random",
        "shuffled[of=activ_patch]",
    }
    assert len(chosen.agreement) == 3
    assert {record.method for record in results.only(methods=["dyn_scalar"]).records} == {
        "dyn_scalar",
        "random",
    }
