"""CausalHeadGating: heads that were planted to help, to hinder, and to do nothing."""

from typing import Any

import torch

from bench.models.bridge import boot_bridge, quiet_transformers
from bench.models.tiny import D_HEAD, tiny_model, tiny_tokenizer
from methods.causal_head_gating import CausalHeadGating
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from tests.methods.small import grid_of, prompts, setting, subject


def planted() -> tuple[SubjectModel, Prompts]:
    """Of the last layer's heads 0 writes towards the answer, 1 away from it, the others nothing.

    Values are made constant and large, MLPs and other layers nothing.
    """
    model: Any = tiny_model("gpt2")
    some = prompts(3)
    answer, foil = int(some.answers[0]), int(some.foils[0])
    same = Prompts(
        some.tokens, some.corrupted, torch.full((3,), answer), torch.full((3,), foil), True
    )
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_proj.weight.zero_()
            block.attn.c_proj.weight.zero_()
        last = model.transformer.h[-1].attn
        last.c_attn.weight[:, 2 * 32 :] = 0
        last.c_attn.bias[2 * 32 :] = 1
        direction = model.lm_head.weight[answer] - model.lm_head.weight[foil]
        direction = 2 * (direction - direction.mean()) / direction.norm() / D_HEAD
        last.c_proj.weight[:D_HEAD] = direction
        last.c_proj.weight[D_HEAD : 2 * D_HEAD] = -direction
    with quiet_transformers():
        return SubjectModel(boot_bridge(model, tiny_tokenizer(), "planted"), 500), same


def test_heads_that_help_hinder_and_do_nothing_are_told_apart() -> None:
    model, some = planted()
    grid = grid_of(model, ["z"], "last")
    slopes = GradScalar().fit(model, some, grid, setting()).scores[:, -1, 0]
    assert slopes[0] > 0.1
    assert slopes[1] < -0.1
    found = CausalHeadGating().fit(model, some, grid, setting())
    helps, hinders, *others = found.scores[:, -1, 0].tolist()
    assert helps > 0.8
    assert hinders < -0.8
    assert max(map(abs, others)) < 0.2
    assert (found.scores[:, :-1].abs() < 0.2).all()


def test_all_positions_of_a_head_have_one_gate() -> None:
    model = subject("llama")
    grid = grid_of(model, ["z"], [3, 6])
    found = CausalHeadGating(steps=3).fit(model, prompts(), grid, setting())
    assert torch.equal(found.scores[..., 0], found.scores[..., 1])
    gates = found.extras["opened"] + found.extras["shut"] - 1
    assert torch.equal(gates, found.scores)
