"""AttrPatch against TransformerLens's gradients, and against ActivPatch where LD is linear."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformer_lens.tools.analysis.attribution_patching import cache_activation_and_gradient

from bench.models.bridge import boot_bridge, quiet_transformers
from bench.models.tiny import ARCHITECTURES, D_HEAD, D_MODEL, N_HEADS, tiny_model, tiny_tokenizer
from methods.activ_patch import ActivPatch
from methods.attr_patch import AttrPatch
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from tests.methods.lens import activation, cache_of, metric_of
from tests.methods.small import apart, grid_of, in_turn, prompt_scores, prompts, setting, subject

DIRECTIONS = ("noising", "denoising")
LIFT = 100.0


@contextmanager
def thawed(model: SubjectModel) -> Iterator[None]:
    """TransformerLens's function needs one parameter that takes gradients; ours are frozen."""
    embedding = model.bridge.original_model.get_input_embeddings().weight
    embedding.requires_grad_(True)
    try:
        yield
    finally:
        embedding.requires_grad_(False)


def gradients(model: SubjectModel, some: Prompts, tokens: torch.Tensor, site: Site) -> Any:
    """dLD/dh of every layer by TransformerLens, (layer, prompt, position, d_model).

    resid_mid has no hook that is the residual stream itself; attn_out is added to it, so that the
    two have the same gradient.
    """
    hook = "attn_out" if site is Site.RESID_MID else site.value
    # The names of the words are aliases; a hook knows itself by its own name.
    names = [f"blocks.{layer}.hook_{hook}" for layer in range(model.n_layers)]
    metric = metric_of(some)
    with thawed(model):
        found = cache_activation_and_gradient(
            model.bridge, tokens, lambda logits: metric(logits).sum(), names_filter=names
        )
    return torch.stack([found.gradients[name] for name in names])


@pytest.mark.parametrize(("architecture", "direction"), in_turn(ARCHITECTURES, DIRECTIONS))
def test_is_transformer_lens_activations_times_gradients(architecture: str, direction: Any) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, keep_final_residual=True)
    scores = prompt_scores(AttrPatch(direction=direction), model, some, grid)
    clean, corrupted = (cache_of(model, tokens) for tokens in (some.tokens, some.corrupted))
    patched = some.tokens if direction == "noising" else some.corrupted
    for index, site in enumerate(grid.sites):
        gradient = gradients(model, some, patched, site)
        for layer in range(grid.n_layers):
            change = activation(clean, site, layer) - activation(corrupted, site, layer)
            theirs = (change * gradient[layer]).sum(dim=-1)
            assert theirs.abs().max() > 0.01
            assert apart(scores[:, index, layer], theirs) < 1e-4


def linear(architecture: str, attends: bool = False) -> SubjectModel:
    """A model whose LD is affine in every site at once, by its weights alone.

    One that `attends` has one layer, and is linear behind its pattern.

    Norms: eps = 1e8 makes the square root a constant (activations are of size 1), which the norm's
    weights undo. Attention: queries and keys are zero, so that the pattern is uniform whatever
    comes in and the output is linear in the values. MLP: with GPT-2 and GPT-NeoX every input of the
    ReLU is lifted far above zero, where it is the identity, and the bias behind it takes what was
    lifted away again; Llama's MLP is switched off.
    """
    relu = {"gpt2": {"activation_function": "relu"}, "gpt_neox": {"hidden_act": "relu"}}
    eps = {"gpt2": "layer_norm_epsilon", "gpt_neox": "layer_norm_eps", "llama": "rms_norm_eps"}
    settings = {eps[architecture]: 1e8, **relu.get(architecture, {})}
    n_layers = 1 if attends else 3
    model = tiny_model(architecture, n_layers=n_layers, dtype=torch.float64, **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = any(part in name for part in ("ln_", "norm.weight", "layernorm"))
            if is_norm and name.endswith("weight"):
                parameter.mul_(1e4)
            elif attends and name.endswith(("wte.weight", "wpe.weight", "embed_tokens.weight")):
                parameter.mul_(4)  # attention that looks somewhere
            elif attends and any(part in name for part in ("c_attn", "q_proj", "k_proj")):
                continue
            elif "c_attn" in name:
                parameter[..., : 2 * D_MODEL] = 0
            elif "query_key_value" in name:
                parameter.unflatten(0, (N_HEADS, 3, D_HEAD))[:, :2] = 0
            elif name.endswith(("c_fc.bias", "h_to_4h.bias")):
                parameter.add_(LIFT)
            elif name.endswith(("mlp.c_proj.bias", "4h_to_h.bias")):
                matrix = model.get_parameter(name.replace("bias", "weight"))
                parameter.sub_(LIFT * matrix.sum(dim=0 if architecture == "gpt2" else 1))
            elif any(part in name for part in ("q_proj", "k_proj", "down_proj")):
                parameter.zero_()
    with quiet_transformers():
        return SubjectModel(boot_bridge(model, tiny_tokenizer(), f"linear-{architecture}"), 500)


@pytest.mark.parametrize(
    ("architecture", "corruption", "direction"),
    [
        ("gpt2", "gaussian", "denoising"),
        ("gpt_neox", "counterfactual", "denoising"),
        ("gpt_neox", "gaussian", "noising"),
        ("llama", "counterfactual", "noising"),
    ],
)
def test_is_activation_patching_on_a_linear_model(
    architecture: str, corruption: Any, direction: Any
) -> None:
    model, some = linear(architecture), prompts()
    grid = grid_of(model, positions=[2, 4, 6], keep_final_residual=True)
    exact, estimate = (
        method(corruption, direction).fit(model, some, grid, setting()).scores
        for method in (ActivPatch, AttrPatch)
    )
    size = exact.abs().max()
    assert size > 0.1
    assert exact[grid.sites.index(Site.ATTN_OUT)].abs().max() > 0.01 * size
    assert apart(exact, estimate) < 1e-4 * size


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_against_zero_is_the_derivative_in_the_scalar(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, model.sites)
    found = AttrPatch(corruption="zero").fit(model, some, grid, setting())
    expected = GradScalar().fit(model, some, grid, setting())
    assert torch.equal(found.scores, expected.scores)
