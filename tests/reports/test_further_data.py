"""What figures draw besides their main numbers comes out as it is stored."""

import numpy as np
import pytest

from bench.store.results import RunStore
from reports.figures import FIGURES
from reports.load import load
from tests.reports.conftest import BETAS, LAYERS, asked, make_cell


def test_fig3_has_the_sweep_of_its_prompt(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "activ_scalar")
    one = {"prompts": record.prompts | {"train": record.prompts["train"][:1]}}
    small_store.write(record.model_copy(update=one), tensors)
    found = FIGURES["fig3"].further(load(small_store.directory))["sweep"]
    assert found["beta"].tolist() == BETAS.tolist()
    for name in ("logit_answer", "logit_foil"):
        assert found[name].tolist() == tensors[f"sweep.train.{name}"][0].tolist()
    assert set(found["cell"]) == {record.id}
    assert set(found["split"]) == {"train"}


def test_fig3_without_a_sweep_has_no_rows(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "activ_scalar")
    one = {"prompts": record.prompts | {"train": record.prompts["train"][:1]}}
    kept = {name: values for name, values in tensors.items() if not name.startswith("sweep.")}
    small_store.write(record.model_copy(update=one), kept)
    found = FIGURES["fig3"].further(load(small_store.directory))["sweep"]
    assert found.empty
    assert list(found) == ["cell", "split", "beta", "logit_answer", "logit_foil"]


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
