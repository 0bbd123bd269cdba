"""Kendall's tau-b against its definition and scipy; the table against cells made by hand."""

import math
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.agreement import table as agreement
from bench.agreement.table import COLUMNS, kendall
from bench.agreement.where import rank_biased_overlap
from bench.store.cells import Cell
from bench.store.records import CellRecord, GridRecord, PromptRecord

SITES, N_LAYERS, POSITIONS = ["attn_out", "mlp_out"], 3, [1, 2, 3]
SHAPE = (len(SITES), N_LAYERS, len(POSITIONS))
# The last layer counts at the answer position (3) only.
N_COMPARED = 2 * (2 * 3 + 1)


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """tau-b as Kendall defines it, over all pairs."""
    concordant = discordant = only_a = only_b = 0
    for i in range(len(a)):
        for j in range(i):
            tied_a, tied_b = a[i] == a[j], b[i] == b[j]
            if tied_a and tied_b:
                continue
            if tied_a:
                only_a += 1
            elif tied_b:
                only_b += 1
            elif (a[i] > a[j]) == (b[i] > b[j]):
                concordant += 1
            else:
                discordant += 1
    untied = concordant + discordant
    below = (untied + only_a) * (untied + only_b)
    return (concordant - discordant) / math.sqrt(below) if below else math.nan


# --- tau ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), max_size=30))
def test_tau_is_its_definition(pairs: list[tuple[int, int]]) -> None:
    """Few values, so that ties and constants come often; jitter below the tolerance is a tie."""
    a, b = (
        (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
        if pairs
        else (
            np.zeros(0),
            np.zeros(0),
        )
    )
    expected = by_definition(a, b)
    largest = np.abs(a).max(initial=0)
    jitter = 1e-7 * largest * np.random.default_rng(0).uniform(-1, 1, len(a))
    for value in (kendall(a, b), kendall(a + jitter, b), kendall(-3e-9 * a, -1e12 * b)):
        assert value == pytest.approx(expected, nan_ok=True)
    assert kendall(a, -b) == pytest.approx(-expected, nan_ok=True)
    assert kendall(b, a) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_or_the_same_everywhere_is_undefined(bad: float) -> None:
    a, b = np.arange(5.0), np.arange(5.0)
    for constant in (np.zeros(5), 1 + 1e-9 * np.arange(5.0)):
        assert math.isnan(kendall(constant, b))
    assert math.isnan(kendall(a, b, keep=np.arange(5) == 2))
    a[2] = bad
    assert math.isnan(kendall(a, b))
    assert math.isnan(kendall(b, a))
    assert kendall(a, b, keep=np.isfinite(a)) == 1


# --- the table ------------------------------------------------------------------------------


def make_cell(
    method: str,
    scores: np.ndarray,
    *,
    prompt_scores: np.ndarray | None = None,
    excluded: tuple[tuple[str, int, int], ...] = (),
    first_token: int = 0,
    sites: list[str] | None = None,
    **fields: Any,
) -> Cell:
    record = CellRecord(
        **{
            **{"id": f"{method}-{fields.get('seed', 0)}", "status": "done"},
            **{"model": "m", "task": "t", "method": method, "seed": 0, "settings": {}},
            **{"trained": False, "control": False, **fields},
        },
        grid=GridRecord(
            sites=sites or SITES,
            n_layers=N_LAYERS,
            positions=POSITIONS,
            excluded=list(excluded),
        ),
        prompts={
            "train": [
                PromptRecord(
                    **dict.fromkeys(("clean", "corrupted", "answer", "foil", "entity"), "x"),
                    tokens=["x"] * 4,
                    token_ids=[first_token, 1, 2, prompt],
                    corrupted_ids=[first_token, 1, 5, prompt],
                    answer_id=1,
                    foil_id=2,
                )
                for prompt in range(8)
            ]
        },
    )
    scores = scores.astype(np.float32)
    for site, layer, position in excluded:
        scores[SITES.index(site), layer, POSITIONS.index(position)] = np.nan
    tensors = {"scores": scores}
    if prompt_scores is not None:
        tensors["prompt_scores"] = prompt_scores.astype(np.float32)
    return Cell(record, tensors)


def per_prompt(method: str, noise_seed: int, **fields: Any) -> Cell:
    """Scores around the same truth for every method, each with noise of its own."""
    truth = np.random.default_rng(99).normal(size=SHAPE)
    scores = truth + 0.5 * np.random.default_rng(noise_seed).normal(size=(8, *SHAPE))
    return make_cell(method, scores.mean(axis=0), prompt_scores=scores, **fields)


def refits(method: str, first: int, count: int = 4) -> list[Cell]:
    truth = np.random.default_rng(99).normal(size=SHAPE)
    noise = np.random.default_rng(first).normal(size=(count, *SHAPE))
    return [
        make_cell(method, truth + 0.3 * noise[seed], seed=seed, trained=True)
        for seed in range(count)
    ]


def agreement_table(cells: list[Cell], **settings: Any) -> pd.DataFrame:
    """The table of cells that are in memory."""
    by_id = {cell.record.id: cell for cell in cells}
    assert len(by_id) == len(cells)
    return agreement.agreement_table([cell.record for cell in cells], by_id.__getitem__, **settings)


def only_row(cells: list[Cell], **settings: Any) -> dict[str, Any]:
    (row,) = agreement_table(cells, **settings).to_dict("records")
    return row


def test_the_pairs_of_a_table() -> None:
    cells = [
        *(per_prompt(method, seed) for seed, method in enumerate(("c", "a", "b"))),
        per_prompt("random", 5, control=True),
        *(
            per_prompt(method, seed, task="u", id=f"u-{method}")
            for seed, method in enumerate(("a", "b"))
        ),
        per_prompt("alone", 1, model="n"),
    ]
    table = agreement_table(cells, resamples=5)
    assert tuple(table.columns) == COLUMNS
    pairs = table[["model", "task", "method_a", "method_b"]].to_numpy().tolist()
    assert pairs == [
        ["m", "t", "a", "b"],
        ["m", "t", "a", "c"],
        ["m", "t", "b", "c"],
        ["m", "u", "a", "b"],
    ]
    assert set(table["status"]) == {"ok"}
    assert tuple(agreement_table([]).columns) == COLUMNS


def test_what_is_compared() -> None:
    """Neither the last layer off the answer position, nor what one of the two excludes."""
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=SHAPE), generator.normal(size=SHAPE)
    keep = np.ones(SHAPE, dtype=bool)
    keep[:, -1, :-1] = False
    row = only_row([make_cell("a", a), make_cell("b", b)])
    assert row["n_points"] == N_COMPARED
    assert row["tau"] == pytest.approx(by_definition(a[keep], b[keep]))
    assert (row["interval_from"], math.isnan(row["low"])) == ("none", True)
    keep[1, 0, 2] = keep[0, 2, 2] = False
    row = only_row(
        [
            make_cell("a", a, excluded=(("mlp_out", 0, 3),)),
            make_cell("b", b, excluded=(("attn_out", 2, 3),)),
        ]
    )
    assert row["n_points"] == N_COMPARED - 2
    assert row["tau"] == pytest.approx(by_definition(a[keep], b[keep]))


def test_points_are_matched_by_name() -> None:
    """The same scores under grids whose sites stand in another order, one of them missing."""
    a = np.random.default_rng(0).normal(size=SHAPE)
    row = only_row([make_cell("a", a), make_cell("b", a[::-1], sites=SITES[::-1])])
    assert (row["tau"], row["n_points"]) == (1, N_COMPARED)
    row = only_row([make_cell("a", a), make_cell("b", a[1:], sites=SITES[1:])])
    assert (row["tau"], row["n_points"]) == (1, N_COMPARED // 2)
    row = only_row([make_cell("a", a), make_cell("b", a, sites=["resid_mid", "resid_post"])])
    assert math.isnan(row["tau"])
    assert row["status"] == "undefined: fewer than two points in common"


def test_the_interval_over_prompts() -> None:
    """Against the same draws in a plain loop: both methods see the same prompts each time."""
    a, b = per_prompt("a", 1), per_prompt("b", 2)
    row = only_row([a, b], resamples=300)
    assert row["interval_from"] == "prompts / prompts"
    assert row["low"] < row["high"]
    keep = ~np.isnan(np.zeros(SHAPE))
    keep[:, -1, :-1] = False
    generator = np.random.default_rng(5)
    taus, of_sizes = [], []
    for _ in range(300):
        chosen = generator.integers(8, size=8)
        of_a, of_b = (c.tensors["prompt_scores"][chosen].mean(axis=0)[keep] for c in (a, b))
        taus.append(by_definition(of_a, of_b))
        of_sizes.append(by_definition(abs(of_a), abs(of_b)))
    expected = np.percentile(taus, (2.5, 97.5))
    assert [row["low"], row["high"]] == pytest.approx(expected, abs=0.05)
    expected = np.percentile(of_sizes, (2.5, 97.5))
    assert [row["size_low"], row["size_high"]] == pytest.approx(expected, abs=0.05)


def test_the_interval_over_seeds() -> None:
    cells = [
        *refits("a", 1),
        per_prompt("b", 2),
        make_cell("c", per_prompt("c", 3).tensors["scores"]),
    ]
    table = agreement_table(cells).set_index(["method_a", "method_b"])
    assert table["interval_from"].to_dict() == {
        ("a", "b"): "seeds / prompts",
        ("a", "c"): "seeds / fixed",
        ("b", "c"): "prompts / fixed",
    }
    assert (table["low"] < table["high"]).all()
    mean = np.mean([cell.tensors["scores"] for cell in cells[:4]], axis=0)
    keep = np.ones(SHAPE, dtype=bool)
    keep[:, -1, :-1] = False
    expected = by_definition(mean[keep], cells[4].tensors["scores"][keep])
    assert table.loc[("a", "b"), "tau"] == pytest.approx(expected)


def test_one_fit_of_a_trained_method_is_held_fixed() -> None:
    """Its scores per prompt, where it has them, come from one training on all prompts."""
    row = only_row([per_prompt("a", 1, trained=True), per_prompt("b", 2, trained=True)])
    assert row["interval_from"] == "none"
    assert math.isnan(row["low"])
    row = only_row([per_prompt("a", 1, trained=True), per_prompt("b", 2)])
    assert row["interval_from"] == "fixed / prompts"
    assert row["low"] < row["high"]


def test_several_seeds_of_an_untrained_method() -> None:
    """Averaged prompt by prompt; where the prompts differ between seeds, it is held fixed."""
    b = per_prompt("b", 2)
    cells = [per_prompt("a", 1, seed=0), per_prompt("a", 3, seed=1), b]
    assert only_row(cells)["interval_from"] == "prompts / prompts"
    cells[1] = per_prompt("a", 3, seed=1, first_token=9)
    assert only_row(cells)["interval_from"] == "fixed / prompts"


def test_no_intervals_on_request() -> None:
    row = only_row([per_prompt("a", 1), per_prompt("b", 2)], resamples=0)
    assert (row["interval_from"], math.isnan(row["low"])) == ("none", True)
    assert row["status"] == "ok"


def overlap_by_definition(a: list[int], b: list[int], p: float) -> float:
    """Rank-biased overlap of two rankings that go on in the same order for ever."""
    total, n = 0.0, len(a)
    for depth in range(1, 2000):
        share = len(set(a[:depth]) & set(b[:depth])) / depth if depth < n else 1.0
        total += (1 - p) * p ** (depth - 1) * share
    return total


@given(st.permutations(range(9)), st.permutations(range(9)), st.sampled_from([0.5, 0.9]))
def test_rank_biased_overlap_is_its_definition(a: list[int], b: list[int], p: float) -> None:
    expected = overlap_by_definition(a, b, p)
    assert rank_biased_overlap(np.array(a), np.array(b), p) == pytest.approx(expected)


def test_sizes_agree_where_signs_do_not() -> None:
    """Against scores without a sign tau is undefined, and agreement on where is not."""
    truth = np.random.default_rng(0).normal(size=SHAPE)
    row = only_row([make_cell("a", truth), make_cell("b", np.abs(truth), signed=False)])
    assert math.isnan(row["tau"])
    assert row["status"] == "undefined: b has scores without a sign"
    same = [row[name] for name in ("size_tau", "size_tau_differing", "weighted_tau")]
    assert same == pytest.approx([1, 1, 1])
    assert (row["rank_overlap"], row["shared"]) == (pytest.approx(1), 1)
    assert row["shared_by_chance"] == 1  # fewer points than are compared
    both = only_row([make_cell(n, truth * s, signed=False) for n, s in (("a", 1), ("b", 2))])
    assert both["tau"] == 1


def test_points_before_the_first_difference_do_not_count_as_differing() -> None:
    """Tokens differ at position 2: the same scores there, others before."""
    truth = np.random.default_rng(0).normal(size=SHAPE)
    other = truth.copy()
    other[..., 0] = np.random.default_rng(1).normal(size=SHAPE[:2])
    row = only_row([make_cell("a", truth), make_cell("b", other)])
    assert row["size_tau_differing"] == pytest.approx(1)
    assert row["size_tau"] < 0.99


def test_undefined_pairs_say_why() -> None:
    broken = per_prompt("b", 2)
    broken.tensors["scores"][0, 0, 0] = np.nan
    row = only_row([per_prompt("a", 1), broken])
    assert (math.isnan(row["tau"]), math.isnan(row["low"])) == (True, True)
    assert row["status"] == "undefined: b has scores that are not numbers"
    row = only_row([make_cell("a", np.zeros(SHAPE)), per_prompt("b", 2)])
    assert row["status"] == "undefined: a has the same score everywhere"
    assert math.isnan(row["tau"])


def test_cells_that_contradict_themselves() -> None:
    cell = make_cell("a", np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match=r"a-0: scores of shape \(1, 2, 3\) do not fit its grid"):
        agreement_table([cell, per_prompt("b", 2)])
    record = cell.record.model_copy(update={"grid": None})
    with pytest.raises(ValueError, match="no grid"):
        agreement_table([Cell(record, cell.tensors), per_prompt("b", 2)])


def test_cells_without_scores_are_left_out() -> None:
    cell = make_cell("a", np.zeros(SHAPE))
    assert len(agreement_table([Cell(cell.record, {}), per_prompt("b", 2)])) == 0


def test_cells_of_a_grid_are_methods_of_their_own() -> None:
    truth = np.random.default_rng(99).normal(size=SHAPE)
    found = [
        make_cell(
            "activ_scalar",
            sign * truth,
            trained=True,
            seed=seed,
            id=f"cell-{sign}-{seed}",
            settings={"objective": {"lambda_f": sign}, "seed": seed},
        )
        for sign in (1.0, -1.0)
        for seed in (0, 1)
    ]
    row = only_row(found)
    assert {row["method_a"], row["method_b"]} == {
        "activ_scalar · lambda_f=1",
        "activ_scalar · lambda_f=-1",
    }
    assert row["tau"] == pytest.approx(-1)
    assert row["interval_from"] == "seeds / seeds"


def test_a_cell_is_read_once_and_those_of_one_method_at_a_time() -> None:
    """What is in memory does not grow with the number of methods: 20 of 3 seeds, and controls."""
    reads: list[str] = []
    alive: list[weakref.ref[Cell]] = []
    most = 0

    def read(cell_id: str) -> Cell:
        nonlocal most
        reads.append(cell_id)
        method, seed = cell_id.rsplit("-", 1)
        scores = np.random.default_rng(len(reads)).normal(size=SHAPE)
        cell = make_cell(method, scores, seed=int(seed))
        alive.append(weakref.ref(cell))
        most = max(most, sum(one() is not None for one in alive))
        return cell

    names = [f"m{number:02}-{seed}" for number in range(20) for seed in range(3)]
    controls = [f"random-{seed}" for seed in range(3)]
    records = [
        make_cell(
            name.rsplit("-", 1)[0], np.zeros(SHAPE), seed=int(name[-1]), control="random" in name
        ).record
        for name in [*names, *controls]
    ]
    table = agreement.agreement_table(records, read, resamples=0)
    assert len(table) == 20 * 19 / 2
    assert sorted(reads) == sorted(names)
    assert most <= 6  # those of the next method are read while the last ones are let go
