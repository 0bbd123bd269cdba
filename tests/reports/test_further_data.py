"""What figures draw besides their main numbers comes out as it is stored."""

import numpy as np
import pytest

from bench.store.results import RunStore
from reports.figures import FIGURES
from reports.figures.vectors import data, seeds_of
from reports.load import load
from tests.reports.cells import BETAS, LAYERS, POSITIONS, SITES, asked, make_cell


@pytest.mark.parametrize("stored", [True, False])
def test_fig3_has_the_sweep_of_its_prompt_where_one_is_stored(
    small_store: RunStore, stored: bool
) -> None:
    record, tensors = make_cell("ccc", "activ_scalar")
    one = {"prompts": record.prompts | {"train": record.prompts["train"][:1]}}
    kept = {name: of for name, of in tensors.items() if stored or not name.startswith("sweep.")}
    small_store.write(record.model_copy(update=one), kept)
    found = FIGURES["fig3"].further(load(small_store.directory))["sweep"]
    assert list(found) == ["cell", "split", "beta", "logit_answer", "logit_foil"]
    assert found["beta"].tolist() == (BETAS.tolist() if stored else [])
    for name in ("logit_answer", "logit_foil") if stored else ():
        assert found[name].tolist() == tensors[f"sweep.train.{name}"][0].tolist()
    assert set(zip(found["cell"], found["split"], strict=True)) <= {(record.id, "train")}


def test_fig5_has_the_effectiveness_that_it_prints(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "dyn_scalar")
    assert record.grid is not None
    rows = [
        row.model_copy(update={"split": "ioi", "E_0": -0.25, "E_0_unsteered": -1.5})
        for row in record.metrics
        if row.split == "test"
    ]
    changes = {
        "settings": asked("dyn_scalar", transfer=["ioi"]),
        "prompts": record.prompts | {"ioi": record.prompts["test"]},
        "metrics": [*record.metrics, *rows],
    }
    scalars = np.zeros((1, len(record.grid.places), LAYERS, 3), dtype=np.float32)
    taken = {"transfer.ioi.scalars": scalars, "transfer.ioi.positions": np.array([1, 2, 3])}
    small_store.write(record.model_copy(update=changes), tensors | taken)
    found = FIGURES["fig5"].further(load(small_store.directory))["effectiveness"]
    assert found["split"].tolist() == ["train", "ioi"]
    train = next(row for row in record.metrics if row.split == "train")
    assert found["E_0"].tolist() == [pytest.approx(train.E_0), -0.25]
    assert found["E_0_unsteered"].tolist() == [pytest.approx(train.E_0_unsteered), -1.5]


def test_draws_of_prompts_are_no_seeds(small_store: RunStore) -> None:
    shape = (len(SITES), LAYERS, POSITIONS)
    for draw in (0, 1):
        for seed in (0, 1):
            generator = np.random.default_rng([draw, seed])
            record, _ = make_cell("ccc", "steer_vec", seed=seed)
            settings = asked("steer_vec", prompts={"train": 4, "seed": draw})
            changes = {"id": f"{draw}-{seed}", "settings": settings}
            tensors = {
                "extra.norm_change": generator.normal(size=shape),
                "extra.cosine_distance": generator.normal(size=shape),
                "intervention.vectors": generator.normal(size=(*shape, 3)),
            }
            small_store.write(record.model_copy(update=changes), tensors)
    results = load(small_store.directory)
    found = seeds_of(results, "smollm2-135m", "ccc")
    assert [one.label for one in found] == [f"steer_vec · prompts.seed={draw}" for draw in (0, 1)]
    assert [[record.seed for record in one.records] for one in found] == [[0, 1], [0, 1]]
    frame = data(results)
    assert set(frame["n_seeds"]) == {2}
    assert (frame["low"] == frame["high"]).all()  # one pair of seeds each
