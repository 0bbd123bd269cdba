"""ActivPatch against TransformerLens's own patching functions: 1,080 points of SmolLM2."""

import pytest
import torch
from transformer_lens import patching

from bench.models.load import LoadedModel
from methods.activ_patch import ActivPatch
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from methods.method import Setting
from tests.speed.conftest import Comparison, grid_of, random_prompts

N_POSITIONS = 18
SAMPLED = [(layer, position) for layer in range(0, 30, 3) for position in (2, 9, 16)]
"""Points that TransformerLens runs; it takes the same time for every point."""


@pytest.mark.parametrize("packed", [False, True])
def test_activ_patch(
    compare: Comparison, plain: LoadedModel, smollm2: LoadedModel, packed: bool
) -> None:
    import pandas as pd

    prompts = random_prompts(1, N_POSITIONS)
    subject = SubjectModel((smollm2 if packed else plain).bridge)
    grid = grid_of(subject, N_POSITIONS)
    found = {}

    def ours() -> None:
        found["ours"] = ActivPatch().fit(subject, prompts, grid, Setting(Objective(), 0)).scores

    bridge = plain.bridge
    with torch.no_grad():
        _, cache = bridge.run_with_cache(prompts.corrupted)
    index = pd.DataFrame(SAMPLED, columns=["layer", "pos"])

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return prompts.logit_difference(logits[:, -1])[0]

    @torch.no_grad()
    def theirs() -> None:
        found["theirs"] = torch.stack(
            [
                patching.generic_activation_patch(
                    bridge, prompts.tokens, cache, metric,
                    patching.layer_pos_patch_setter, name, index_df=index,
                )
                for name in ("attn_out", "mlp_out")
            ]
        )  # fmt: skip

    compare(
        f"ActivPatch, packed={packed}",
        ours,
        theirs,
        at_most=1 / (15 if packed else 10),
        rounds=3,
        theirs_times=grid.n_points / (2 * len(SAMPLED)),
    )
    unpatched = metric(bridge(prompts.tokens))
    for row, (layer, position) in enumerate(SAMPLED):
        expected = unpatched - found["theirs"][:, row]
        torch.testing.assert_close(
            found["ours"][:, layer, position], expected, atol=1e-4, rtol=1e-4
        )
