"""Steering vectors are compared between seeds that saw the same prompts."""

import numpy as np

from bench.store.results import RunStore
from reports.load import load
from reports.vectors import seeds_of, table
from tests.reports.conftest import LAYERS, POSITIONS, SITES, asked, make_cell


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
    frame = table(results)
    assert set(frame["n_seeds"]) == {2}
    assert (frame["low"] == frame["high"]).all()  # one pair of seeds each
