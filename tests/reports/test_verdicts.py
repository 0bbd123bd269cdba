"""The leaderboard says who differs from whom, and when nobody can tell."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.results import RunStore
from reports.load import Results, load
from reports.outcomes import outcomes
from reports.present import OVER_PROMPTS, formatted
from reports.statistics import holm, interval, sign_flip
from reports.tables import paired, ranks
from reports.tables.leaderboard import leaderboard
from reports.tables.paired import NOT_TOLD_APART, TOO_FEW
from reports.text import interval as interval_text
from tests.reports.conftest import make_cell

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def results(run_directory: Path) -> Results:
    return load(run_directory)


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
    np.testing.assert_allclose(frame["p"].astype(float), sign_flip(a - b))
    np.testing.assert_allclose(frame["p_holm"].astype(float), holm(frame["p"]))
    row = frame.iloc[3]
    assert (row["low"], row["high"]) == interval((a - b)[3])
    told = frame[~frame["verdict"].isin([NOT_TOLD_APART, TOO_FEW])]
    assert 0 < len(told) < len(frame)
    for _, row in told.iterrows():
        assert row["p_holm"] < 0.05
        better = row["method_a"] if row["difference"] > 0 else row["method_b"]
        assert row["verdict"] == better


def test_the_leaderboard_judges_methods_not_controls(board: pd.DataFrame) -> None:
    methods = board[~board["control"].astype(bool)]
    assert board.loc["random", ["against_best", "against_controls"]].isna().all()
    assert methods["against_best"].iloc[0].startswith("best")
    assert methods.loc["steer_vec", "against_controls"] == "beats controls"
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


def test_with_few_prompts_nothing_is_told(small_store: RunStore) -> None:
    for method in ("dla", "attr_patch", "random"):
        record, tensors = make_cell("ccc", method)
        few = {name: t[:3] if name.startswith("split.test") else t for name, t in tensors.items()}
        few["split.test.beta"] = tensors["split.test.beta"]
        small_store.write(record, few)
    board = leaderboard(load(small_store.directory)).set_index("method")
    assert board.loc["dla", "against_controls"] == TOO_FEW
    assert set(board["against_best"].dropna()) == {TOO_FEW, "best, not told apart from 1"}


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
    assert row["verdict"] == NOT_TOLD_APART


def test_other_prompts_are_not_paired(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "dla")
    small_store.write(record, tensors)
    other, tensors = make_cell("ccc", "attr_patch")
    fewer = {n: t[:5] if "test.ld" in n or "test.kl" in n else t for n, t in tensors.items()}
    small_store.write(other, fewer)
    results = load(small_store.directory)
    assert paired.table(results).empty
    assert leaderboard(results)["against_best"].isna().all()


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
