"""Methods on the embedded model against PyTorch's hooks on the same model without a bridge."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor

from methods import METHODS
from methods.core.objective import Objective
from methods.local_rules import RULES
from methods.path_gradients import PathGradients
from tests.methods.plain_model import (
    LAST,
    POINTS,
    WIDE,
    Edits,
    Plain,
    Setup,
    at_last,
    gradients,
    in_order,
    near,
    plain,
)
from tests.methods.small import apart

WITHOUT_A_MODEL = ("file_scores", "random", "shuffled")


@pytest.mark.parametrize("path", ["inputs", "conductance", "joint"])
def test_path_gradients(real: Setup, path: str) -> None:
    clean, corrupted = real.clean, real.corrupted
    start, change = corrupted.seen["embed", 0], clean.seen["embed", 0] - corrupted.seen["embed", 0]

    def between(at: float) -> Edits:
        def moved(other: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda h: at_last(torch.lerp(other, h[:, -1], at))(h)

        if path == "joint":
            return {point: moved(corrupted.last(*point)) for point in POINTS}
        return {("embed", 0): lambda h: start + at * change}

    rule, places = {
        "inputs": ("end", (0.5, 1.0)),
        "conductance": ("trapezoid", (0.0, 0.5, 1.0)),
        "joint": ("middle", (0.25, 0.75)),
    }[path]
    runs = [gradients(real, real.some.tokens, between(at)) for at in places]

    def product(*point: Any) -> Tensor:
        slopes = [slope[point] for _, slope in runs]
        if path == "conductance":
            changes = [b.last(*point) - a.last(*point) for (a, _), (b, _) in pairwise(runs)]
            slopes = [a + b for a, b in pairwise(slopes)]
        elif path == "inputs":
            changes = [clean.last(*point) - corrupted.last(*point)] * 2
        else:  # of what arrived
            arrived = zip(runs, places, strict=True)
            changes = [(run.last(*point) - corrupted.last(*point)) / at for (run, _), at in arrived]
        return (
            torch.stack([a * b for a, b in zip(changes, slopes, strict=True)]).sum(dim=(0, -1)) / 2
        )

    found = real.prompt_scores(real.grid(*WIDE), "path_gradients", path=path, steps=2, rule=rule)
    near(found, in_order(product))


@pytest.mark.parametrize("site", ["q", "k"])
def test_atp_star_is_the_change_of_the_pattern_times_its_gradient(real: Setup, site: str) -> None:
    corrupted = real.corrupted
    found = real.prompt_scores(real.grid(site), "atp_star", drop=False)
    with torch.enable_grad():
        edits = {("embed", 0): lambda h: h.clone().requires_grad_()}
        run = plain(real.bare, real.some.tokens, edits)
        slopes = torch.autograd.grad(real.ld(run.logits).sum(), run.patterns)
    for layer in (9, 21, LAST):
        with torch.no_grad():
            edit = at_last(corrupted.last(site, layer))
            patched = plain(real.bare, real.some.tokens, {(site, layer): edit}).patterns[layer]
        effect = (run.patterns[layer] - patched) * slopes[layer]
        by_head = effect[:, :, -1].sum(dim=-1).unflatten(1, (found.shape[1], -1))
        near(found[:, :, layer, 0], by_head.sum(dim=-1) if site == "k" else by_head[..., 0], 5e-3)


def test_captum_divides_what_patching_everything_does(real: Setup) -> None:
    clean, corrupted = real.clean, real.corrupted
    patch = {point: at_last(corrupted.last(*point)) for point in POINTS}

    def effect(*sites: str) -> Tensor:
        edits = {point: edit for point, edit in patch.items() if point[0] in sites}
        with torch.no_grad():
            return real.ld(clean.logits - plain(real.bare, real.some.tokens, edits).logits)

    grid, by = real.grid(*WIDE), {"group": "position"}
    for algorithm, samples, error in (
        ("shapley_sampling", 1, 1e-3),
        ("kernel_shap", 4, 1e-3),
        ("integrated_gradients", 6, 0.03),
    ):
        found = real.prompt_scores(grid, "captum", algorithm=algorithm, samples=samples, **by)
        near(found.sum(dim=(1, 2, 3)), effect(*WIDE), error)
    alone = real.prompt_scores(grid, "captum", algorithm="feature_ablation", **by)
    near(alone.sum(dim=(2, 3)), torch.stack([effect(site) for site in WIDE], dim=1))


def first_order(real: Setup) -> tuple[Tensor, Tensor]:
    """(h - h') . g and h . g at the last position of the clean run."""
    corrupted = real.corrupted
    run, slopes = gradients(real, real.some.tokens, {})

    def product(change: Callable[[str, int], Tensor]) -> Tensor:
        return in_order(lambda *point: (change(*point) * slopes[point]).sum(dim=-1)).detach()

    return product(lambda *one: run.last(*one) - corrupted.last(*one)), product(run.last)


def test_first_order_methods(real: Setup) -> None:
    patched, scaled = first_order(real)
    grid = real.grid(*WIDE)
    near(real.prompt_scores(grid, "attr_patch"), patched)
    near(real.prompt_scores(grid, "grad_scalar"), scaled)
    kept = (patched.sign() == patched.mean(dim=0).sign()).all(dim=0)  # of two prompts
    near(real.fit(grid, "kept_signs").scores, patched.mean(dim=0) * kept)
    ranks = [
        torch.from_numpy(rankdata(one.abs().numpy()).reshape(one.shape)) / one.numel() * one.sign()
        for one in (patched.mean(dim=0), scaled.mean(dim=0))
    ]
    members = ("attr_patch", "grad_scalar")
    found = real.fit(grid, "ensemble", members=members).scores
    # Two scores that differ by rounding may change places.
    assert apart(found, sum(ranks) / 2) < 3 / grid.n_points
    ld = real.ld(real.clean.logits)
    times = torch.where(ld.abs() < Objective().margin, 2.0, 1.0)
    slope = (times[:, None, None, None] * scaled).mean(dim=0)
    one_step = real.fit(grid, "iterated_grad_scalar", steps=1).scores
    near(one_step, 0.25 * slope / slope.abs().max())


def test_direct_effect_and_dla(real: Setup) -> None:
    clean, corrupted = real.clean, real.corrupted
    norm, unembedding = real.bare.model.norm, real.bare.lm_head.weight
    final = clean.last("resid_post", LAST)
    difference = unembedding[real.some.answers] - unembedding[real.some.foils]

    def patched(site: str, layer: int) -> Tensor:
        changed = final - clean.last(site, layer) + corrupted.last(site, layer)
        return (norm(changed) * difference).sum(dim=-1)

    expected = in_order(lambda *point: real.ld(clean.logits) - patched(*point))
    near(real.prompt_scores(real.grid(*WIDE), "direct_effect"), expected)
    scale = (final.square().mean(dim=-1, keepdim=True) + norm.variance_epsilon).sqrt()
    direction = norm.weight * difference / scale
    direct = in_order(lambda *one: (clean.last(*one) * direction).sum(dim=-1))
    near(real.prompt_scores(real.grid(*WIDE), "dla"), direct)


def test_logit_lens(real: Setup) -> None:
    clean = real.clean
    found = real.prompt_scores(real.grid("resid_post"), "logit_lens")
    for layer in (0, 15, LAST):
        logits = real.bare.lm_head(real.bare.model.norm(clean.last("resid_post", layer)))
        near(found[:, 0, layer, 0], real.ld(logits))


def test_information_flow_into_the_answers_stream(real: Setup) -> None:
    """In the last layer a head's route is the lesser of the MLP's two and its own share."""
    clean = real.clean
    grid = real.grid("z", "attn_out", "mlp_out")
    found = real.prompt_scores(grid, "information_flow")

    def nearness(y: Tensor, part: Tensor) -> Tensor:
        return (y.abs().sum(dim=-1) - (y - part).abs().sum(dim=-1)).clamp_min(0)

    for prompt in range(2):
        post, mlp, attn = (
            clean.last(name, LAST)[prompt] for name in ("resid_post", "mlp_out", "attn_out")
        )
        by_mlp, past = nearness(post, mlp), nearness(post, post - mlp)
        reader = torch.maximum(by_mlp, past) / (by_mlp + past)
        values = clean.seen["v", LAST][prompt].unflatten(-1, (3, 64)).repeat_interleave(3, dim=1)
        out = real.bare.model.layers[LAST].self_attn.o_proj.weight.T.unflatten(0, (9, 64))
        read = torch.einsum("hj,jhd,hde->hje", clean.patterns[LAST][prompt, :, -1], values, out)
        near(read.sum(dim=(0, 1)), attn)
        of_heads, before = nearness(post - mlp, read), nearness(post - mlp, post - mlp - attn)
        route = torch.minimum(reader, of_heads / (of_heads.sum() + before)).amax(dim=-1)
        expected = torch.stack([*route, route.max(), by_mlp / (by_mlp + past)])
        near(found[prompt, :, LAST, 0], expected)


def test_what_the_runs_differ_in(real: Setup) -> None:
    clean, corrupted = real.clean, real.corrupted

    def changes(site: str, layer: int) -> Tensor:
        return clean.last(site, layer) - corrupted.last(site, layer)

    grid, beta = real.grid(*WIDE), torch.tensor([0.1, 0.1])
    length = in_order(lambda *one: changes(*one).mean(dim=0, keepdim=True).norm(dim=-1))[0]
    by_means = real.fit(grid, "diff_means")
    near(by_means.scores, length)

    def added(site: str, layer: int) -> Callable[[Tensor], Tensor]:
        return lambda h: at_last(h[:, -1] + 0.1 * changes(site, layer).mean(dim=0))(h)

    edits = {point: added(*point) for point in POINTS}
    assert by_means.intervention is not None
    with torch.no_grad():
        steered = real.model.logits(real.some.tokens, by_means.intervention.at(beta))
        near(steered, plain(real.bare, real.some.tokens, edits).logits)
    chosen = real.fit(grid, "sadi", k=7).scores
    assert set(length[chosen > 0].tolist()) == set(length.flatten().topk(7).values.tolist())

    def sureness(site: str, layer: int) -> Tensor:
        """Of the ridge that two points at a distance of 2 |d| give, of the other prompt's two."""
        judged = []
        for own, other in ((0, 1), (1, 0)):
            plus, minus = (run.last(site, layer)[own].double() for run in (clean, corrupted))
            d, middle = (plus - minus) / 2, (plus + minus) / 2
            for sign, run in ((1, clean), (-1, corrupted)):
                unseen = run.last(site, layer)[other].double() - middle
                judged.append((sign * 2 * (unseen @ d) / (3 * d @ d)).clamp(-1, 1))
        return torch.stack(judged).mean().clamp_min(0).float()[None]

    near(real.fit(grid, "probe").scores, in_order(sureness)[0])


def test_methods_that_patch_point_by_point(real: Setup) -> None:
    clean, corrupted = real.clean, real.corrupted
    grid, some = real.grid("mlp_out"), real.some
    layers = (0, 11, LAST)
    at_these = torch.zeros_like(grid.included)
    at_these[:, list(layers)] = True
    grid.included.logical_and_(at_these)

    def answer(run: Plain) -> Tensor:
        return run.logits.softmax(dim=-1).gather(1, some.answers[:, None])[:, 0]

    def patched(tokens: Tensor, donor: Callable[[int], Tensor], *at: int) -> Plain:
        with torch.no_grad():
            return plain(real.bare, tokens, {("mlp_out", one): at_last(donor(one)) for one in at})

    def mean(layer: int) -> Tensor:
        return clean.last("mlp_out", layer).mean(dim=0, keepdim=True).expand(2, -1)

    found = real.prompt_scores(grid, "function_vectors")
    gained = [answer(patched(some.corrupted, mean, at)) - answer(corrupted) for at in layers]
    near(found[:, 0, list(layers), 0], torch.stack(gained, dim=1))

    def lost(*at: int) -> Tensor:
        donor = lambda layer: corrupted.last("mlp_out", layer)  # noqa: E731
        return real.ld(clean.logits - patched(some.tokens, donor, *at).logits)

    alone = real.prompt_scores(grid, "activ_patch")
    near(alone[:, 0, list(layers), 0], torch.stack([lost(at) for at in layers], dim=1))
    strongest = max(layers, key=lambda at: float(alone[:, 0, at].mean()))
    backups = real.prompt_scores(grid, "coax", k=1)
    rest = [at for at in layers if at != strongest]
    more = [lost(strongest, at) - lost(strongest) - lost(at) for at in rest]
    near(backups[:, 0, rest, 0], torch.stack(more, dim=1), 5e-3)


def test_every_method_that_runs_a_model_is_tried_on_this_one() -> None:
    """With every path and all rules."""
    files = Path(__file__).parent.glob("test_embedded_*.py")
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    asked = [name for name in METHODS if name not in WITHOUT_A_MODEL]
    paths = get_args(get_type_hints(PathGradients)["path"])
    assert [name for name in (*asked, *paths, *RULES) if f'"{name}"' not in text] == []
