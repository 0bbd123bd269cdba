"""Head-level sites q, k, v, z and o against TransformerLens's own functions and plain loops."""

from itertools import product
from typing import Any

import pandas as pd
import pytest
import torch
from transformer_lens import patching

from bench.models.tiny import ARCHITECTURES
from methods.activ_patch import ActivPatch
from methods.activ_scalar import ActivScalar
from methods.attr_patch import AttrPatch
from methods.core.attention_output import AttentionOutput, UnknownAttentionOutputError
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.points import HEAD_SITES, SHARED_SITES, Heads, PointGrid, Site
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from methods.dla import DLA
from methods.dyn_scalar import DynScalar
from methods.grad_scalar import GradScalar
from methods.method import Method
from methods.steer_vec import SteerVec
from tests.methods.small import (
    N_POSITIONS,
    cache_of,
    full_logits,
    grid_of,
    in_turn,
    largest_difference,
    metric_of,
    prompts,
    setting,
    subject,
)

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
each_kind = pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3"])
"""Heads in one matrix, grouped heads, and queries with a norm; more in tests/architectures."""
THEIRS = {
    Site.Z: patching.get_act_patch_attn_head_out_by_pos,
    Site.V: patching.get_act_patch_attn_head_v_by_pos,
    Site.Q: patching.get_act_patch_attn_head_q_by_pos,
    Site.K: patching.get_act_patch_attn_head_k_by_pos,
}


def hook_of(site: Site, layer: int) -> str:
    return f"blocks.{layer}.attn.hook_{'z' if site is Site.O else site}"


@every_architecture
def test_a_model_has_as_many_values_as_key_value_heads(architecture: str) -> None:
    n_kv_heads = 4 if architecture in ("gpt2", "gpt_neox") else 2
    model = subject(architecture)
    assert model.heads == Heads(4, n_kv_heads, 8)
    grid = grid_of(model, HEAD_SITES)
    assert [place.label for place in grid.places] == [
        *(f"q.{head}" for head in range(4)),
        *(f"k.{head}" for head in range(n_kv_heads)),
        *(f"v.{head}" for head in range(n_kv_heads)),
        *(f"z.{head}" for head in range(4)),
        *(f"o.{head}" for head in range(4)),
    ]


@pytest.mark.parametrize(
    ("architecture", "site", "direction"),
    [
        ("gpt2", Site.Z, "noising"),
        ("gpt2", Site.Q, "noising"),
        ("llama", Site.V, "denoising"),
        ("llama", Site.K, "denoising"),
        ("gemma3", Site.Q, "noising"),
        ("gemma3", Site.K, "denoising"),
    ],
)
def test_activ_patch_is_transformer_lens_patching(
    architecture: str, site: Site, direction: Any
) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, [site])
    scores = ActivPatch(direction=direction).fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    metric = metric_of(some)
    receiver, donor = some.tokens, some.corrupted
    if direction == "denoising":
        receiver, donor = donor, receiver
    positions = [2, 3, 6]  # prompts differ from the first of them on
    points = pd.DataFrame(
        product(range(3), positions, range(len(grid.places))), columns=["layer", "pos", "head"]
    )
    with torch.no_grad():
        patched = THEIRS[site](
            model.bridge,
            receiver,
            cache_of(model, donor),
            metric,
            index_axis_names=None,
            index_df=points,
            reduce="none",
        ).values
    unpatched = metric(full_logits(model, receiver))
    theirs = unpatched - patched if direction == "noising" else patched - unpatched
    assert theirs.abs().max() > 0.02
    ours = scores[..., positions].permute(2, 3, 1, 0).flatten(0, 2)
    assert largest_difference(ours, theirs) < 1e-4


@pytest.mark.parametrize("site", sorted(HEAD_SITES))
@each_kind
def test_grad_scalar_is_the_central_difference_of_one_heads_scale(
    architecture: str, site: Site
) -> None:
    """By a hook that scales one head at one position, in both directions."""
    model, some = subject(architecture), prompts()
    grid = grid_of(model, [site], [3, -1])
    scores = GradScalar().fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    step, normed = 1e-2, architecture == "gemma3" and site in (Site.Q, Site.K)
    # A row for each head, position, sign and prompt.
    steps = [*product(range(len(grid.places)), (0, 1), (1, -1))]
    many = some.take([*range(len(some))] * len(steps))

    def scale(h: Any, hook: Any) -> Any:
        h = h.unflatten(0, (len(steps), len(some))).clone()
        for row, (head, at, sign) in enumerate(steps):
            position = grid.positions[at]
            # Behind the norm of queries and keys heads come first.
            h[(row, slice(None), *((head, position) if normed else (position, head)))] *= (
                1 + sign * step
            )
        return h.flatten(0, 1)

    for layer in (0, 2):
        name = hook_of(site, layer) + "_normed" * normed
        lds = metric_of(many)(full_logits(model, many.tokens, [(name, scale)]))
        up, down = lds.view(len(grid.places), 2, 2, len(some)).unbind(2)
        found = scores[:, :, layer].permute(1, 2, 0)
        assert largest_difference(found, (up - down) / (2 * step)) < 2e-3
    assert scores.abs().max() > 0.05


def test_a_scaled_query_turns_the_attention_in_spite_of_its_norm() -> None:
    """Before the norm a scalar would do nothing until it turns the sign."""
    model, some = subject("gemma3"), prompts()
    grid = grid_of(model, ["q", "k"])
    scaling = StaticScaling(grid, torch.ones(grid.shape))
    with torch.no_grad():
        plain = model.logits(some.tokens)
        doubled = model.logits(some.tokens, scaling.at(torch.ones(3)))
    assert largest_difference(plain, doubled) > 0.1


def test_attr_patch_estimates_activ_patch() -> None:
    """One small step along the change of a value: the estimate is exact in the limit."""
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["v"])
    estimate = AttrPatch().fit(model, some, grid, setting()).scores
    exact = ActivPatch().fit(model, some, grid, setting()).scores
    assert torch.corrcoef(torch.stack([estimate.flatten(), exact.flatten()]))[0, 1] > 0.5
    assert bool(((estimate == 0) == (exact == 0)).float().mean() > 0.9)


@pytest.mark.parametrize(
    ("method", "architecture"),
    in_turn([ActivPatch(), AttrPatch(), GradScalar(), DLA()], ["gpt2", "gemma2"]),
)
def test_o_scores_are_those_of_z(architecture: str, method: Method) -> None:
    model, some = subject(architecture), prompts()
    o, z = (method.fit(model, some, grid_of(model, [s]), setting()).scores for s in ("o", "z"))
    assert torch.equal(o, z)
    assert o.abs().max() > 0.01


def test_scaling_o_is_scaling_z() -> None:
    model, some = subject("gemma3"), prompts()
    o, z = grid_of(model, ["o"]), grid_of(model, ["z"])
    alpha = torch.randn(o.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = [
            model.logits(some.tokens, StaticScaling(g, alpha).at(torch.ones(3))) for g in (o, z)
        ]
    assert torch.equal(*found)
    trained = [ActivScalar(epochs=2).fit(model, some, g, setting()).scores for g in (o, z)]
    assert torch.equal(*trained)


@pytest.mark.parametrize(
    ("site", "kind"),
    [
        (site, kind)
        for site in sorted(HEAD_SITES)
        for kind in (StaticScaling, SteeringVectors, DynamicScaling)
        if (site, kind) != (Site.O, SteeringVectors)  # see test_what_is_not_supported
    ],
)
def test_edits_are_the_equations_head_by_head(site: Site, kind: Any) -> None:
    """Eq. 4, 5 and 10 by loops over rows, positions and heads; at o, h of Eq. 10 is W_O z."""
    n = 2 if site in SHARED_SITES else 4
    grid = PointGrid((site,), 2, (1, 3), N_POSITIONS, heads=Heads(4, 2, 8))
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    h, beta, output = draw(3, N_POSITIONS, n, 8), torch.tensor([1.0, -2.0, 0.5]), draw(2, 4, 8, 32)
    width = 32 if site is Site.O else 8
    shapes = {StaticScaling: (2,), SteeringVectors: (2, width), DynamicScaling: (width,)}
    theta = draw(n, 2, *shapes[kind])
    intervention = kind(grid, theta, *((output,) if kind is DynamicScaling else ()))
    for layer in (0, 1):
        found = intervention.at(beta)(site, layer, h).detach()
        expected = h.double().clone()
        for row, head, (p, at) in product(range(3), range(n), enumerate(grid.positions)):
            seen = h[row, at, head].double()
            own = theta[head, layer].double()
            if kind is SteeringVectors:
                expected[row, at, head] = seen + beta[row] * own[p]
                continue
            if kind is StaticScaling:
                alpha = own[p]
            else:
                read = seen @ output[layer, head].double() if site is Site.O else seen
                alpha = own @ read / read.norm()
            expected[row, at, head] = seen * (1 + beta[row] * alpha)
        assert largest_difference(found, expected) < 1e-5
        assert not torch.equal(found[:, 3], h[:, 3])


def test_what_is_not_supported() -> None:
    assert Site.O not in SteerVec.sites
    assert not {Site.Q, Site.K, Site.V} & DLA.sites


@pytest.mark.parametrize("method", [SteerVec(epochs=2), DynScalar(epochs=2)])
def test_places_of_different_width_stand_side_by_side(method: Any) -> None:
    """What a place's own width leaves over is no parameter, and stays 0 through training."""
    model, some = subject("qwen2"), prompts()
    mixed = method.fit(model, some, grid_of(model, ["z", "mlp_out"]), setting())
    assert mixed.intervention is not None
    (theta,) = mixed.intervention.parameters()
    assert theta.shape[-1] == 32
    assert bool((theta[:4, ..., 8:] == 0).all())
    assert bool((theta[:4, ..., :8] != 0).any())
    units = 7 if isinstance(method, SteerVec) else 1
    assert mixed.intervention.theta().numel() == 3 * units * (4 * 8 + 32)
    with torch.no_grad():
        logits = model.logits(some.tokens, mixed.intervention.at(torch.ones(3)))
        kept = mixed.intervention.keep_largest(10_000)
        again = model.logits(some.tokens, kept.at(torch.ones(3)))
    assert torch.equal(logits, again)


def direct_effects(model: SubjectModel) -> dict[str, torch.Tensor]:
    """DLA of heads and of attn_out, (prompt, place, layer, position)."""
    some = prompts()
    found = {}
    for site in ("o", "attn_out"):
        scores = DLA().fit(model, some, grid_of(model, [site]), setting()).prompt_scores
        assert scores is not None
        found[site] = scores
    return found


@every_architecture
def test_dla_of_heads_and_the_bias_is_dla_of_attn_out(architecture: str) -> None:
    """Completeness: the output bias, which belongs to no head, makes up the rest."""
    model, some = subject(architecture), prompts()
    found = direct_effects(model)
    cache = cache_of(model, some.tokens)
    rest = found["attn_out"][:, 0] - found["o"].sum(dim=1)
    for layer in range(3):
        block = model.bridge.blocks[layer]
        bias = getattr(block.attn, "b_O", None)
        if bias is None:
            assert rest[:, layer].abs().max() < 1e-4
            continue
        assert "gemma" not in architecture  # no norm behind the attention to go through
        final = cache["ln_final.hook_scale"]
        unembed = model.bridge.original_model.get_output_embeddings().weight
        difference = unembed[some.answers] - unembed[some.foils]
        weighted = model.bridge.ln_final.original_component.weight * difference
        weighted = weighted - weighted.mean(dim=-1, keepdim=True)
        expected = (weighted @ bias)[:, None] / final[..., 0]
        assert largest_difference(rest[:, layer], expected) < 1e-4
        assert expected.abs().max() > 0.01


def test_a_misread_attention_output_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = subject("gpt2")
    right = AttentionOutput.of

    def without_bias(subject: SubjectModel, layer: int) -> AttentionOutput:
        one = right(subject, layer)
        return AttentionOutput(layer, one.weight, torch.zeros_like(one.bias), one.norm)

    monkeypatch.setattr(AttentionOutput, "of", without_bias)
    with pytest.raises(UnknownAttentionOutputError, match="layer 0 do not add up"):
        direct_effects(model)


def test_a_head_that_writes_nothing_has_a_scalar_of_0_and_a_gradient() -> None:
    """||W_O z|| = 0, as of a pruned head: Eq. 10 gives 0, and training goes on."""
    grid = PointGrid((Site.O,), 1, (0, 1), 2, heads=Heads(4, 2, 8))
    generator = torch.Generator().manual_seed(0)
    output = torch.randn((1, 4, 8, 32), generator=generator)
    output[0, 1] = 0
    scaling = DynamicScaling(grid, torch.randn((4, 1, 32), generator=generator), output)
    z = torch.randn((3, 2, 4, 8), generator=generator, requires_grad=True)
    alpha = scaling.alpha(Site.O, 0, z)
    assert torch.all(alpha[:, 1] == 0)
    assert alpha[:, 0].abs().min() > 0
    scaling.at(torch.ones(3))(Site.O, 0, z).square().sum().backward()
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())
    assert bool(torch.isfinite(scaling.gates.grad).all())
