"""One run with every stage on: what its cells store of each, and what controls leave out."""

from pathlib import Path

import numpy as np
import pytest

from bench.evaluation.sparsity import area, sizes
from bench.evaluation.transfer import TIED
from bench.execution.estimate import estimated_rows
from bench.execution.run import run_matrix
from bench.matrix.stages import PRICE_CURVE
from bench.store.cells import Cell
from bench.store.records import CellRecord
from bench.store.results import RunStore
from reports.load import load
from reports.tables.one_point import table
from tests.small import brief_matrix, planned, small_matrix

TRAINED = [{"name": name, "epochs": 2} for name in ("activ_scalar", "dyn_scalar")]
FEW = (
    '{"clean": "The capital of France is", "corrupted": "The capital of Spain is", '
    '"answer": " Paris", "foil": " Madrid", "entity": "France"}\n'
)
STAGES = {
    "prices": {},
    "localisation": {"k": [1, 16, 100_000]},
    "sparsity": {"points": 4},
    "retrained": {"k": [4], "draws": 2, "steps": 2},
    "circuit": {"draws": 2},
    "one_point": {},
    "sanity": {"depths": 2},
}


@pytest.fixture(scope="module")
def store(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    folder = tmp_path_factory.mktemp("stages")
    (folder / "few.jsonl").write_text(FEW)
    few = {"name": "file", "path": str(folder / "few.jsonl")}
    matrix = small_matrix(
        tiny_folder,
        methods=["grad_scalar", *TRAINED],
        controls={"draws": 3, "shuffles": 1, "brief": True},
        specificity={"tasks": ["ccc", few], "prompts": 2},
        transfer=["ccc", "ioi"],
        **STAGES,
    )
    outcome = run_matrix(matrix, folder / "run")
    assert not outcome.failed
    return outcome.store


@pytest.fixture(scope="module")
def cells(store: RunStore) -> list[Cell]:
    return [store.read(cell_id) for cell_id in store.ids()]


@pytest.fixture(scope="module")
def methods(cells: list[Cell]) -> dict[str, Cell]:
    found = {one.record.settings["method"]["name"]: one for one in cells if not one.record.control}
    assert set(found) == {"grad_scalar", "activ_scalar", "dyn_scalar"}
    return found


def is_brief(record: CellRecord) -> bool:
    return record.control and (record.draw > 0 or record.method != "random")


def e_0_of(ld: np.ndarray) -> np.ndarray:
    """From LD of every prompt, at strengths with both signs."""
    return (np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0)).mean(axis=0)


def test_controls_have_what_verdicts_need_and_methods_all(cells: list[Cell]) -> None:
    assert len(cells) == 3 + 3 + 3
    for record in (cell.record for cell in cells):
        brief, full = is_brief(record), not record.control
        kinds = {row.beta_kind for row in record.metrics if row.split == "test"}
        star = {"star"} if not record.trained else set()
        assert kinds == ({"price"} if brief else {"one", "price"} | star)
        assert [one.price for one in record.prices] == ([0.3] if brief else [0.1, 0.3, 1.0])
        assert record.localisation is not None
        assert record.localisation.k == ([16] if brief else [1, 16])
        assert (record.minimality is None) == brief
        assert (record.price_curve is None) == brief
        assert (record.one_point is None) == brief
        assert record.circuit is not None
        assert record.circuit.draws == (0 if brief else 2)
        assert (record.specificity is not None) == full
        assert (record.sanity is not None) == (full and not record.trained)
        around = ["other positions"] * 2 + ["other layers"] * 2
        random = record.method == "random" and record.draw < 2
        supports = [row.support for row in record.retrained]
        assert supports == (["strongest", *around] if full else ["strongest"] * random)


def test_a_cell_says_what_it_paid_on_every_split(cells: list[Cell]) -> None:
    for record, tensors in ((cell.record, cell.tensors) for cell in cells):
        for price in record.prices:
            rows = {row.split: row for row in record.metrics if row.price == price.price}
            assert set(rows) == {"train", "test", "shifted"}
            assert {row.beta for row in rows.values()} == {price.beta}
            found = [-rows["train"].F, rows["train"].E_0]
            np.testing.assert_allclose(found, [price.paid, price.E_0], atol=1e-5)
            assert price.beta in tensors["split.test.beta"].tolist()
        if record.price_curve is not None:
            assert record.price_curve.price == list(PRICE_CURVE)
            kl = tensors["price_curve.kl"]
            assert kl.shape == (3, len(PRICE_CURVE), 2)
            np.testing.assert_allclose(record.price_curve.paid, kl.sum(-1).mean(0), rtol=1e-4)
        assert record.localisation is not None
        expected = e_0_of(tensors["localisation.ld"])
        np.testing.assert_allclose(record.localisation.E_0, expected, atol=1e-6)


def test_every_cell_has_its_sparsity_curve_and_what_it_is_made_of(cells: list[Cell]) -> None:
    for cell in cells:
        curve, grid = cell.record.sparsity, cell.record.grid
        assert curve is not None
        assert grid is not None
        assert curve.k == sizes(len(grid.places) * grid.n_layers * len(grid.positions), 4)
        kl = cell.tensors["sparsity.kl"]
        assert kl.shape == (3, len(curve.k), 2)
        np.testing.assert_allclose(curve.E_0, e_0_of(cell.tensors["sparsity.ld"]), atol=1e-6)
        np.testing.assert_allclose(curve.F, -kl.sum(axis=-1).mean(axis=0), rtol=1e-5)
        assert curve.area == area(curve.k, curve.E_0)
        assert cell.record.provenance["seconds"]["sparsity"] > 0


def test_all_points_of_a_score_are_the_evaluation_at_beta_star(cells: list[Cell]) -> None:
    whole = [cell.record for cell in cells if not cell.record.trained and not is_brief(cell.record)]
    assert len(whole) == 2
    for record in whole:
        assert record.sparsity is not None
        assert record.beta is not None
        (row,) = [r for r in record.metrics if (r.split, r.beta_kind) == ("test", "star")]
        assert record.sparsity.beta[-1] == record.beta.star
        assert record.sparsity.E_0[-1] == pytest.approx(row.E_0, abs=1e-5)
        assert record.sparsity.F[-1] == pytest.approx(row.F, abs=1e-5)


def test_specificity_leaves_out_what_cannot_be_prepared_and_says_so(
    methods: dict[str, Cell],
) -> None:
    for record in (cell.record for cell in methods.values()):
        assert record.specificity is not None
        assert [row.where for row in record.specificity.rows] == ["ioi", "ccc", "neutral text"]
        assert [row.kind for row in record.specificity.rows] == ["own", "task", "neutral"]
        assert record.specificity.beta == record.prices[1].beta
        assert any("specificity was not measured on few.jsonl" in note for note in record.notes)


def test_maps_are_checked_against_weights_and_answers(methods: dict[str, Cell]) -> None:
    sanity = methods["grad_scalar"].record.sanity
    assert sanity is not None
    assert {row.what for row in sanity.rows} == {"weights", "answers"}


def test_dynamic_scalars_are_taken_to_another_length_and_no_other_method_is(
    methods: dict[str, Cell],
) -> None:
    record, tensors = methods["dyn_scalar"].record, methods["dyn_scalar"].tensors
    (row,) = [row for row in record.metrics if row.split == "ccc"]
    assert row.n_prompts == len(record.prompts["ccc"]) == 3
    length = len(record.prompts["ccc"][0].tokens)
    assert length != len(record.prompts["test"][0].tokens)
    assert tensors["transfer.ccc.positions"].tolist() == list(range(1, length))
    assert record.grid is not None
    scalars = tensors["transfer.ccc.scalars"]
    assert scalars.shape == (3, 2, record.grid.n_layers, length - 1)
    assert np.abs(scalars).max() > 0
    assert pytest.approx(float(e_0_of(tensors["split.ccc.ld"][:, 1:])), abs=1e-5) == row.E_0
    at_home = {"train", "test", "shifted"}
    for name, taken, tied in (
        ("dyn_scalar", {"ccc"}, False),
        ("activ_scalar", set(), True),
        ("grad_scalar", set(), False),
    ):
        record = methods[name].record
        assert {row.split for row in record.metrics} == at_home | taken
        assert (TIED in record.notes) == tied
        assert ("transfer" in record.settings) == record.trained
    assert set(methods["grad_scalar"].record.prompts) == at_home


def test_one_point_steering_stands_in_its_table(store: RunStore, cells: list[Cell]) -> None:
    measured = {one.record.method: one.record.one_point for one in cells if one.record.one_point}
    assert len(measured) == 4
    frame = table(load(store.directory))
    assert len(frame) == 2 * len(measured)
    for row in frame.to_dict("records"):
        (fit,) = [fit for fit in measured[row["method"]].fits if fit.size == row["size"]]
        assert row["gain"] == pytest.approx(fit.gain)
        assert row["low"] <= row["gain"] <= row["high"]


@pytest.mark.parametrize(
    "asked", [*STAGES.items(), ("specificity", {"tasks": ["ccc"]})], ids=lambda one: one[0]
)
def test_a_stage_is_part_of_what_a_cell_is_and_costs_rows(asked: tuple[str, object]) -> None:
    """And those of controls stay what they were where it is not for them."""

    def rows(**changes: object) -> list[dict[str, float]]:
        none = {"prices": {"at": [0.3], "curve": False}}
        controls = {"draws": 2, "shuffles": 2, "brief": True}
        found = planned(
            brief_matrix("m", methods=["grad_scalar"], controls=controls, **{**none, **changes})
        )
        every = estimated_rows(found)
        return [
            {
                cell.id: every[cell.id]
                for cell in found
                if type(cell.method.method).control == wanted
            }
            for wanted in (False, True)
        ]

    (off, controls), (on, others) = rows(), rows(**dict([asked]))
    assert off.keys().isdisjoint(on)
    assert min(on.values()) > max(off.values())
    assert (controls == others) == (asked[0] in ("sanity", "specificity"))


def test_where_it_is_taken_is_part_of_what_a_trained_cell_is() -> None:
    methods = ["dla", TRAINED[1]]
    one, other = (
        {
            cell.method.name: cell.id
            for cell in planned(brief_matrix("m", methods=methods, transfer=to))
        }
        for to in (["ccc", "ioi"], ["ioi"])
    )
    assert one["dla"] == other["dla"]
    assert one["dyn_scalar"] != other["dyn_scalar"]
