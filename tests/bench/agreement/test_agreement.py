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


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """tau-b as Kendall defines it, over all pairs."""
    pairs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i in range(len(a)) for j in range(i)]
    untied_a, untied_b = (sum(abs(pair[side]) for pair in pairs) for side in (0, 1))
    below = untied_a * untied_b
    return float(sum(x * y for x, y in pairs) / math.sqrt(below)) if below else math.nan


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), max_size=30))
def test_tau_is_its_definition(pairs: list[tuple[int, int]]) -> None:
    """Few values, so that ties and constants come often; jitter below the tolerance is a tie."""
    a, b = np.array(pairs, dtype=float).reshape(-1, 2).T
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
    words = dict.fromkeys(("clean", "corrupted", "answer", "foil", "entity"), "x")
    ids = {"answer_id": 1, "foil_id": 2, "tokens": ["x"] * 4}
    train = [
        PromptRecord(
            **words, **ids, token_ids=[first_token, 1, 2, n], corrupted_ids=[first_token, 1, 5, n]
        )
        for n in range(8)
    ]
    usual = {"id": f"{method}-{fields.get('seed', 0)}", "status": "done", "model": "m"}
    usual |= {"task": "t", "seed": 0, "settings": {}, "trained": False, "control": False}
    record = CellRecord(
        **{**usual, "method": method, **fields},
        grid=GridRecord(
            sites=sites or SITES, n_layers=N_LAYERS, positions=POSITIONS, excluded=list(excluded)
        ),
        prompts={"train": train},
    )
    scores = scores.astype(np.float32)
    for site, layer, position in excluded:
        scores[SITES.index(site), layer, POSITIONS.index(position)] = np.nan
    tensors = {"scores": scores}
    if prompt_scores is not None:
        tensors["prompt_scores"] = prompt_scores.astype(np.float32)
    return Cell(record, tensors)


def compared(*left_out: tuple[int, int, int]) -> np.ndarray:
    """What stands in a comparison: of the last layer the answer position alone."""
    keep = np.ones(SHAPE, dtype=bool)
    keep[:, -1, :-1] = False
    for point in left_out:
        keep[point] = False
    return keep


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
        *(per_prompt(name, seed, task="u", id=f"u-{name}") for seed, name in enumerate("ab")),
        per_prompt("alone", 1, model="n"),
    ]
    table = agreement_table(cells, resamples=5)
    assert tuple(table.columns) == COLUMNS
    pairs = [*zip(*(table[name] for name in ("task", "method_a", "method_b")), strict=True)]
    assert pairs == [("t", "a", "b"), ("t", "a", "c"), ("t", "b", "c"), ("u", "a", "b")]
    assert set(table["model"]) == {"m"}
    assert set(table["status"]) == {"ok"}
    assert tuple(agreement_table([]).columns) == COLUMNS


def test_what_is_compared() -> None:
    """Neither the last layer off the answer position, nor what one of the two excludes."""
    a, b = np.random.default_rng(0).normal(size=(2, *SHAPE))
    for without_a, without_b, keep in (
        ((), (), compared()),
        ((("mlp_out", 0, 3),), (("attn_out", 2, 3),), compared((1, 0, 2), (0, 2, 2))),
    ):
        row = only_row(
            [make_cell("a", a, excluded=without_a), make_cell("b", b, excluded=without_b)]
        )
        assert row["n_points"] == keep.sum()
        assert row["tau"] == pytest.approx(by_definition(a[keep], b[keep]))
        assert (row["interval_from"], math.isnan(row["low"])) == ("none", True)


def test_points_are_matched_by_name() -> None:
    """The same scores under grids whose sites stand in another order, one of them missing."""
    a = np.random.default_rng(0).normal(size=SHAPE)
    for b, sites, n in ((a[::-1], SITES[::-1], 14), (a[1:], SITES[1:], 7)):
        row = only_row([make_cell("a", a), make_cell("b", b, sites=sites)])
        assert (row["tau"], row["n_points"]) == (1, n)
    row = only_row([make_cell("a", a), make_cell("b", a, sites=["resid_mid", "resid_post"])])
    assert math.isnan(row["tau"])
    assert row["status"] == "undefined: fewer than two points in common"


def test_the_interval_over_prompts() -> None:
    """Against the same draws in a plain loop: both methods see the same prompts each time."""
    a, b = per_prompt("a", 1), per_prompt("b", 2)
    row = only_row([a, b], resamples=300)
    assert row["interval_from"] == "prompts / prompts"
    assert row["low"] < row["high"]
    generator = np.random.default_rng(5)
    taus, of_sizes = [], []
    for _ in range(300):
        chosen = generator.integers(8, size=8)
        of_a, of_b = (c.tensors["prompt_scores"][chosen].mean(axis=0)[compared()] for c in (a, b))
        taus.append(by_definition(of_a, of_b))
        of_sizes.append(by_definition(abs(of_a), abs(of_b)))
    for found, low, high in ((taus, "low", "high"), (of_sizes, "size_low", "size_high")):
        expected = np.percentile(found, (2.5, 97.5))
        assert [row[low], row[high]] == pytest.approx(expected, abs=0.05)


def test_the_interval_over_seeds() -> None:
    b, c = per_prompt("b", 2), make_cell("c", per_prompt("c", 3).tensors["scores"])
    cells = [*refits("a", 1), b, c]
    table = agreement_table(cells).set_index(["method_a", "method_b"])
    assert [*table["interval_from"]] == ["seeds / prompts", "seeds / fixed", "prompts / fixed"]
    assert (table["low"] < table["high"]).all()
    mean, keep = np.mean([cell.tensors["scores"] for cell in cells[:4]], axis=0), compared()
    expected = by_definition(mean[keep], b.tensors["scores"][keep])
    assert table.loc[("a", "b"), "tau"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "interval_from", "settings"),
    [
        ([{"trained": True}], "fixed / prompts", {}),
        ([{"seed": 0}, {"seed": 1}], "prompts / prompts", {}),
        ([{"seed": 0}, {"seed": 1, "first_token": 9}], "fixed / prompts", {}),
        ([{}], "none", {"resamples": 0}),
    ],
    ids=["one training", "seeds of the same prompts", "seeds of others", "none asked for"],
)
def test_what_is_drawn_anew_of_a_method(
    a: list[dict[str, Any]], interval_from: str, settings: dict[str, int]
) -> None:
    """One fit is held fixed, whatever it has of prompts; seeds are averaged prompt by prompt."""
    found = [per_prompt("a", 1 + 2 * n, **fields) for n, fields in enumerate(a)]
    row = only_row([*found, per_prompt("b", 2)], **settings)
    assert (row["interval_from"], row["status"]) == (interval_from, "ok")
    assert (row["low"] < row["high"]) == (interval_from != "none")


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
    for cells, why in (
        ([per_prompt("a", 1), broken], "b has scores that are not numbers"),
        ([make_cell("a", np.zeros(SHAPE)), per_prompt("b", 2)], "a has the same score everywhere"),
    ):
        row = only_row(cells)
        assert (math.isnan(row["tau"]), math.isnan(row["low"])) == (True, True)
        assert row["status"] == f"undefined: {why}"


def test_cells_that_contradict_themselves_or_have_no_scores() -> None:
    cell, b = make_cell("a", np.zeros((1, 2, 3))), per_prompt("b", 2)
    with pytest.raises(ValueError, match=r"a-0: scores of shape \(1, 2, 3\) do not fit its grid"):
        agreement_table([cell, b])
    record = cell.record.model_copy(update={"grid": None})
    with pytest.raises(ValueError, match="no grid"):
        agreement_table([Cell(record, cell.tensors), b])
    assert len(agreement_table([Cell(cell.record, {}), b])) == 0


def test_cells_of_a_grid_are_methods_of_their_own() -> None:
    truth = np.random.default_rng(99).normal(size=SHAPE)
    found = []
    for sign in (1.0, -1.0):
        for seed in (0, 1):
            settings = {"objective": {"lambda_f": sign}, "seed": seed}
            fields = {"id": f"{sign}-{seed}", "seed": seed, "settings": settings, "trained": True}
            found.append(make_cell("activ_scalar", sign * truth, **fields))
    row = only_row(found)
    named = {f"activ_scalar · lambda_f={sign}" for sign in (1, -1)}
    assert {row["method_a"], row["method_b"]} == named
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
    records = []
    for name in [*names, *(f"random-{seed}" for seed in range(3))]:
        method, seed = name.rsplit("-", 1)
        control = method == "random"
        records.append(make_cell(method, np.zeros(SHAPE), seed=int(seed), control=control).record)
    table = agreement.agreement_table(records, read, resamples=0)
    assert len(table) == 20 * 19 / 2
    assert sorted(reads) == sorted(names)
    assert most <= 6  # those of the next method are read while the last ones are let go
