"""Claims: rules with known verdicts, and numbers from stored cells made up to be known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.store.records import PriceRecord
from bench.store.results import RunStore
from reports.claims import CLAIMS
from reports.claims.claim import Claim, Measured, PaperResults, Rule
from reports.claims.write import frame, judge, judged, write_claims
from reports.figures.heads import data, overlap_by_chance
from reports.fronts import front, shares
from reports.load import load
from reports.statistics import t_interval, values_needed
from reports.text import number
from tasks.errors import UserInputError
from tests.reports.conftest import asked, make_cell, make_failure

REPEATED = range(4)


@pytest.mark.parametrize(
    ("rule", "interval", "verdict"),
    [
        (Rule(lowest=0.5), (0.51, 0.9), "holds"),
        (Rule(lowest=0.5), (0.2, 0.5), "does not hold"),
        (Rule(lowest=0.5), (0.4, 0.9), "cannot be said"),
        (Rule(highest=0.1), (-1.0, 0.05), "holds"),
        (Rule(highest=0.1), (0.1, 0.3), "does not hold"),
        (Rule(highest=0.1), (0.0, 0.3), "cannot be said"),
        (Rule(0.3, 0.7), (0.3, 0.7), "holds"),
        (Rule(0.3, 0.7), (0.71, 0.9), "does not hold"),
        (Rule(0.3, 0.7), (0.1, 0.2), "does not hold"),
        (Rule(0.3, 0.7), (0.6, 0.8), "cannot be said"),
    ],
)
def test_a_rule_looks_at_the_whole_interval(
    rule: Any, interval: tuple[float, float], verdict: str
) -> None:
    assert rule.verdict(*interval) == verdict
    assert "interval" in rule.words


def named(name: str) -> Claim:
    return next(claim for claim in CLAIMS if claim.name == name)


def cell(
    store: RunStore,
    method: str,
    draw: int,
    of_split: dict[str, float | dict[str, float]],
    scale: float = 1.0,
    **changes: Any,
) -> None:
    """A cell of one draw of prompts with the given E_0, or more numbers, a split; -1 elsewhere."""
    record, tensors = make_cell("ccc", method, seed=draw)
    tensors["scores"] = scale * tensors["scores"]
    found = {row.split: of_split.get(row.split, -1.0) for row in record.metrics}
    numbers = {split: of if isinstance(of, dict) else {"E_0": of} for split, of in found.items()}
    metrics = [row.model_copy(update=numbers[row.split]) for row in record.metrics]
    settings = asked(method, prompts={"seed": draw})
    fields = {"seed": 0, "metrics": metrics, "settings": settings, **changes}
    store.write(record.model_copy(update=fields), tensors)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Table 2 with known drops, and Fig. 9 with known flips and times."""
    store = RunStore.create(tmp_path / "table2", {})
    for draw in REPEATED:
        shift = 0.01 * draw
        cell(store, "activ_scalar", draw, {"train": 0.0, "test": -0.2, "shifted": -0.9 + shift})
        cell(store, "steer_vec", draw, {"train": 0.0, "test": -0.5 - shift, "shifted": -0.9})
        cell(store, "dyn_scalar", draw, {"train": 0.0, "test": -0.5, "shifted": -0.1})
    store = RunStore.create(tmp_path / "fig9", {})
    for draw in REPEATED:
        for method, seconds in (("activ_patch", 40.0), ("activ_scalar", 4.0), ("dla", 1.0)):
            share = 1.0 if method == "activ_patch" else 0.6
            flips = {of: {"flips_plus": share, "flips_minus": share} for of in ("train", "test")}
            provenance = {
                "seconds": {"fit": seconds + 0.1 * draw},
                "passes": {"fit_forward_rows": 10 * seconds, "fit_backward_rows": 0},
            }
            size = 1000.0 if method == "dla" else 1.0
            cell(store, method, draw, {**flips}, size, provenance=provenance)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("drop_from_train", 0.315, "holds"),
        ("dla_scale", 3.0, "holds"),
        ("dynamic_generalises", 0.785, "holds"),
        ("vectors_generalise", -0.015, "cannot be said"),
        ("activ_patch_flips", 1.0, "holds"),
        ("dla_does_not_flip", 0.6, "holds"),
        ("faster", 1.0, "holds"),
    ],
)
def test_known_numbers_give_known_verdicts(
    directory: Path, name: str, value: float, verdict: str
) -> None:
    found = judge(named(name), PaperResults(directory))
    assert found.measured is not None
    assert found.measured.value == pytest.approx(value, abs=0.02 if name != "dla_scale" else 0.2)
    assert found.verdict == verdict
    stored = set(RunStore.open(directory / found.claim.presets[0]).ids())
    assert found.measured.cells
    assert set(found.measured.cells) <= stored


def test_what_has_not_been_run_or_failed_cannot_be_said_and_says_why(directory: Path) -> None:
    source = PaperResults(directory)
    found = judge(named("front_faithfulness"), source)
    assert (found.verdict, found.measured) == ("cannot be said", None)
    assert "fig2" in found.reason

    store = RunStore.open(directory / "table2")
    store.write(make_failure("ccc", "steer_vec", "out of memory"), {})
    partly = judge(named("drop_from_train"), PaperResults(directory))
    assert partly.verdict == "holds"
    assert "1 cells of table2 failed (NumericalError: out of memory)" in partly.reason


def at_price(store: RunStore, method: str, draw: int, own: float, e_0: float, f: float) -> None:
    """A cell whose E_0 is `own` at its own strength, and `e_0` where it pays -`f` for 0.3 nats."""
    record, tensors = make_cell("ccc", method, seed=draw)
    rows = [row.model_copy(update={"E_0": own}) for row in record.metrics]
    priced = {"beta_kind": "price", "beta": 0.5, "price": 0.3, "E_0": e_0, "F": f}
    changes = {
        "metrics": [*rows, *(row.model_copy(update=priced) for row in rows)],
        "prices": [PriceRecord(price=0.3, beta=0.5, paid=0.3, E_0=e_0)],
        "settings": asked(method, prompts={"seed": draw}),
        "seed": 0,
    }
    store.write(record.model_copy(update=changes), tensors)


@pytest.mark.parametrize(
    ("dearer", "verdict", "note"),
    [(-0.36, "does not hold", ""), (-0.40, "cannot be said", "prices differ")],
)
def test_what_compares_e_0_is_judged_at_equal_price_too(
    tmp_path: Path, dearer: float, verdict: str, note: str
) -> None:
    """DynScalar is better at its own strength, and worse at 0.3 nats, if that is what it pays."""
    store = RunStore.create(tmp_path / "table2", {})
    for draw in REPEATED:
        at_price(store, "activ_scalar", draw, own=-0.9 - 0.01 * draw, e_0=-0.5, f=-0.3)
        at_price(store, "dyn_scalar", draw, own=-0.1, e_0=-0.7 - 0.01 * draw, f=dearer)
    found = judge(named("dynamic_generalises"), PaperResults(tmp_path))
    assert found.verdict == "holds"
    assert found.at_price is not None
    assert found.at_price.verdict == verdict
    assert found.at_price.measured is not None
    assert found.at_price.measured.value == pytest.approx(-0.215)
    assert note in found.at_price.reason
    row = frame([found]).iloc[0]
    assert (row["verdict"], row["verdict at price"]) == ("holds", verdict)
    assert row["value_at_price"] == pytest.approx(-0.215)


def test_what_was_not_measured_at_a_price_says_so(directory: Path) -> None:
    found = judge(named("last_position"), PaperResults(directory))
    assert found.at_price is not None
    assert found.at_price.verdict == "cannot be said"
    found = judge(named("dynamic_generalises"), PaperResults(directory)).at_price
    assert found is not None
    assert "was not measured at a price" in found.reason


def test_what_cannot_be_said_says_what_would_decide_it(directory: Path) -> None:
    """-0.015 with a deviation of 0.0129: 4 draws leave it open, a few more would not."""
    found = judge(named("vectors_generalise"), PaperResults(directory))
    needed = values_needed(float(np.std([0.0, 0.01, 0.02, 0.03], ddof=1)), 0.015)
    assert needed is not None
    assert found.would_decide == f"about {needed} draws of prompts instead of 4"
    assert judge(named("drop_from_train"), PaperResults(directory)).would_decide == ""


@pytest.mark.parametrize("distance", [0.4, 1.0])
def test_values_needed_decide_in_four_of_five_repetitions(distance: float) -> None:
    n = values_needed(1.0, distance)
    assert n is not None
    drawn = np.random.default_rng(0).normal(distance, 1.0, size=(4000, n))
    lows = [t_interval(values).low for values in drawn]
    assert 0.76 < np.mean(np.array(lows) > 0) < 0.88
    assert values_needed(1.0, 0.001) is None


def test_one_repetition_has_no_interval_and_no_verdict() -> None:
    def measure(source: object) -> Measured:
        return Measured.of([3.0], "prompts", ["a"])

    found = judge(Claim("x", "x", "x", (), Rule(lowest=0.0), measure), PaperResults(Path()))
    assert found.verdict == "cannot be said"
    assert "one repetition only" in found.reason
    assert found.here == "3.00"


def test_the_first_page_holds_every_claim_and_can_be_traced(directory: Path) -> None:
    page = write_claims(directory, ["table2", "fig9", "fig2"])
    text = page.read_text("utf-8")
    assert "Without a report: table2, fig9, fig2" in text
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert f'id="{claim.name}"' in text
    table = pd.read_csv(directory / "claims.csv", keep_default_na=False)
    rows = judged(PaperResults(directory))
    assert list(table["verdict"]) == [row.verdict for row in rows]
    own = table[table["name"] == "drop_from_train"].iloc[0]
    assert set(own["cells"].split()) <= set(RunStore.open(directory / "table2").ids())
    assert (directory / "claims.md").read_text("utf-8").count("\n") == len(CLAIMS) + 2
    assert r"\toprule" in (directory / "claims.tex").read_text("utf-8")
    with pytest.raises(UserInputError, match="not a folder"):
        write_claims(directory / "none", [])


# --- what claims are made of ----------------------------------------------------------------


def test_a_front_is_what_nothing_dominates() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        x, y = generator.integers(0, 6, size=(2, 12)).astype(float)
        expected = [
            not any(
                x[j] >= x[i] and y[j] >= y[i] and (x[j] > x[i] or y[j] > y[i]) for j in range(12)
            )
            for i in range(12)
        ]
        assert front(x, y).tolist() == expected
    x, y = np.array([0.0, np.nan, -1.0]), np.array([-1.0, 5.0, 0.0])
    assert front(x, y).tolist() == [True, False, True], "what is undefined is on no front"
    assert shares(["a", "b", "b"], x, y) == {"a": 0.5, "b": 0.5}
    assert np.isnan(shares(["a"], np.array([np.nan]), np.array([0.0]))["a"])


def test_students_interval() -> None:
    from scipy import stats

    values = [0.1, 0.4, 0.2, 0.9]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(t_interval([]).mean)


def test_chance_overlap_is_that_of_random_choices() -> None:
    generator = np.random.default_rng(0)
    drawn = [
        len({*generator.permutation(40)[:10]} & {*generator.permutation(40)[:10]})
        for _ in range(4000)
    ]
    mean, high = overlap_by_chance(10, 40)
    assert mean == pytest.approx(np.mean(drawn), abs=0.1)
    assert high == np.quantile(drawn, 0.95, method="inverted_cdf")


# --- claims about grids, tokens, transfer and the last position -----------------------------------


@pytest.fixture
def known(tmp_path: Path) -> PaperResults:
    """Results of four presets in which every number of interest was chosen by hand."""
    chosen = {
        # E_0 on train, then E_0 and F on test, setting by setting
        "activ_scalar": [(0.0, 0.0, -3.0), (-0.2, -0.1, -1.0), (-0.6, -0.5, -0.1)],
        # the first is on the common front; (-0.1, -1) dominates the others
        "steer_vec": [(-0.1, -0.05, -2.0), (-0.3, -0.3, -2.5), (-0.25, -0.2, -1.5)],
    }
    grid = RunStore.create(tmp_path / "fig2", {})
    for method, reached in chosen.items():
        for place, (seen, e_0, f) in enumerate(reached):
            values = {"train": seen, "test": {"E_0": e_0, "F": f}}
            cell(grid, method, place, values, settings=asked(method, objective={"lambda_f": place}))
    tokens = RunStore.create(tmp_path / "fig3", {})
    for draw in REPEATED:
        record, tensors = make_cell("ccc", "activ_scalar", seed=draw)
        assert record.grid is not None
        one = record.prompts["train"][0]
        ids = {"answer_id": one.token_ids[5], "foil_id": one.token_ids[8]}
        tensors["scores"][:, :-1] = 0.0
        tensors["scores"][:, :, record.grid.positions.index(5)] = 0.3 + 0.01 * draw
        tensors["scores"][:, :, record.grid.positions.index(8)] = -0.2
        changes = {
            "prompts": record.prompts | {"train": [one.model_copy(update=ids)]},
            "settings": asked("activ_scalar", prompts={"seed": draw}),
        }
        tokens.write(record.model_copy(update=changes), tensors)
    moved = RunStore.create(tmp_path / "fig6", {})
    for task, found in (("ccc", (-0.2, -1.8)), ("mixture", (-0.5, -1.0))):
        for draw in REPEATED:
            record, tensors = make_cell(task, "dyn_scalar", seed=draw)
            (row,) = (one for one in record.metrics if one.split == "test")
            rows = [
                row.model_copy(update={"split": split, "E_0": e_0 - 0.01 * draw, **UNSTEERED})
                for split, e_0 in zip(("ccc", "ioi"), found, strict=True)
            ]
            settings = asked("dyn_scalar", transfer=["ccc", "ioi"])
            moved.write(record.model_copy(update={"metrics": rows, "settings": settings}), tensors)
    last = RunStore.create(tmp_path / "fig7", {})
    for draw in REPEATED:
        cell(last, "activ_scalar", draw, {"test": -0.34 - 0.01 * draw})
    return PaperResults(tmp_path)


UNSTEERED = {"E_0_unsteered": -2.0}


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("front_faithfulness", 3 / 4, None),
        ("parameters", 794_880 / 1379, "holds"),
        # of the 15 pairs of settings 4 are in the same order, 11 are not
        ("effective_unfaithful", (4 - 11) / 15, None),
        ("answer_tokens", 0.315, "holds"),
        ("foil_tokens", -0.2, "holds"),
        ("mixture", 1 - 1.015 / 2, None),
        ("last_position", 1 - 0.355 / 1.7, "holds"),
    ],
)
def test_numbers_chosen_by_hand_come_back(
    known: PaperResults, name: str, value: float, verdict: str | None
) -> None:
    found = judge(named(name), known)
    assert found.measured is not None, found.reason
    assert found.measured.value == pytest.approx(value, abs=1e-6)
    assert verdict in (None, found.verdict)


@pytest.mark.parametrize("name", ["front_faithfulness", "mixture", "last_position"])
def test_the_papers_numbers_are_the_same_where_prices_were_measured_too(
    known: PaperResults, name: str
) -> None:
    before = judge(named(name), known).measured
    assert before is not None
    again = known.directory / "again"
    for preset in named(name).presets:
        store, without = (
            RunStore.create(again / preset, {}),
            RunStore.open(known.directory / preset),
        )
        for cell in map(without.read, without.ids()):
            rows = cell.record.metrics
            priced = {"beta_kind": "price", "beta": 0.1, "price": 0.3, "E_0": -9.0}
            changes = {
                "metrics": [*rows, *(row.model_copy(update=priced) for row in rows)],
                "prices": [PriceRecord(price=0.3, beta=0.1, paid=0.3, E_0=-9.0)],
            }
            store.write(cell.record.model_copy(update=changes), cell.tensors)
    assert judge(named(name), PaperResults(again)).measured == before


def test_counts_say_what_each_method_needs_where_it_is_most_effective(known: PaperResults) -> None:
    found = judge(named("front_smallest_k"), known)
    best = {
        method: make_cell("ccc", method, seed=0)[0].minimality
        for method in ("activ_scalar", "steer_vec")
    }
    assert all(best.values())
    for method, minimality in best.items():
        assert minimality is not None
        assert minimality.smallest_k is not None
        width = 794_880 / 1379 if method == "steer_vec" else 1  # a vector has as many parameters
        assert f"{method} {number(width * minimality.smallest_k, 0)}" in found.note


def test_a_count_that_misses_what_a_method_does_decides_nothing(known: PaperResults) -> None:
    found = judge(named("front_minimality"), known)
    assert found.verdict == "cannot be said"
    assert "blind: steer_vec steers where it is 0 or not meaningful" in found.reason


def test_every_model_has_rows_of_its_own(directory: Path) -> None:
    store = RunStore.open(directory / "table2")
    for draw in REPEATED:
        for method, e_0 in (("activ_scalar", -0.9), ("dyn_scalar", -1.2)):
            reached = dict.fromkeys(("train", "test", "shifted"), e_0 - 0.01 * draw)
            other = {"model": "other", "id": f"other-{method}-{draw}"}
            cell(store, method, draw, {**reached}, **other)
    rows = judged(PaperResults(directory), [named("dynamic_generalises")])
    assert {row.model: row.verdict for row in rows} == {
        "smollm2-135m": "holds",
        "other": "does not hold",
    }
    assert len(rows) == 2
    page = write_claims(directory, ["table2"]).read_text("utf-8")
    assert 'id="dynamic_generalises-' in page


def test_heads_are_paired_by_their_refits(tmp_path: Path) -> None:
    """A missing cell leaves its partner without one, and all other pairs as they are."""
    grid = {"sites": ["o"], "heads": {"o": 4}, "n_layers": 5, "positions": [3]}
    store = RunStore.create(tmp_path, {})
    for method, refits in (("dla", (0, 1, 2)), ("activ_scalar", (1, 2))):
        for draw in refits:
            record, tensors = make_cell("ccc", method, seed=draw, grid=grid)
            tensors["scores"] = np.random.default_rng(draw).normal(size=(4, 5, 1))
            settings = asked(method, prompts={"seed": draw})
            changes = {"settings": settings, "seed": 0}
            store.write(record.model_copy(update=changes), tensors)
    found = data(load(tmp_path))
    assert list(found["refit"]) == ["seed 0, prompts 1", "seed 0, prompts 2"]
    assert (found["overlap"] == found["k"]).all()
    assert {*found["cell_a"], *found["cell_b"]} == {
        f"ccc-{method}-{draw}-0" for method in ("dla", "activ_scalar") for draw in (1, 2)
    }
