"""InformationFlow: the routes along which the answer position's stream was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.attention import noted
from methods.core.attention_output import AttentionOutput
from methods.core.hooks import Activations
from methods.core.memory import require_memory
from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting

PIECE = 2**18
"""Numbers that are taken apart at once."""

Along = dict[Site, Float[Tensor, "..."]]
"""How strong the strongest route through each activation of a layer is, (position) or (position,
head)."""


@dataclass(frozen=True)
class InformationFlow(Method):
    """The score of a point is the largest threshold at which it is still on a route to the answer.

    A stream y is a sum of parts f: the stream before, the MLP's output, and for every head and
    source position what is read there. A part's importance is max(0, |y|_1 - |y - f|_1), the parts
    of a stream normalised to a sum of 1. Routes lead from the last stream of the answer position
    backwards along parts over a threshold: through a head to the stream of its source, through an
    MLP to the stream that it reads. A point is on a route as long as the threshold is under the
    least importance on the best way there, which is its score. Scores have no sign, and know
    nothing of the foil.

    Source: 'Information Flow Routes: Automatically Interpreting Language Models at Scale' (Ferrando
    and Voita 2024), Section 2.
    """

    sites: ClassVar[frozenset[Site]] = ALL_SITES - {Site.Q, Site.K}
    """Queries and keys are not parts of a stream."""

    @property
    def signed(self) -> bool:
        """No: importance tells how much of a stream a part is."""
        return False

    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward; then every stream is taken apart, head by head and source by source.

        Raises:
            UserInputError: for a model whose heads cannot be hooked.
            UnknownAttentionError: for one whose attention pattern cannot be seen.
            UnknownAttentionOutputError: if what heads read does not add up to what the attention
                adds to the residual stream.
            NotEnoughMemoryError: if what the heads of a layer read does not fit.
        """
        sites = (Site.V, Site.ATTN_OUT, Site.MLP_OUT, Site.RESID_POST)
        subject.check_sites(sites)  # by a forward of its own, whose patterns are not asked for
        n_positions, n_layers = prompts.n_positions, grid.n_layers
        n_heads = subject.bridge.cfg.n_heads
        require_memory(
            12 * n_heads * n_positions * subject.d_model,
            subject.device,
            f"what {n_heads} heads write of {n_positions} positions each",
            "shorter prompts",
        )
        points = [(site, layer) for layer in range(n_layers) for site in sites]
        with noted(subject, "hook_pattern") as seen:
            h = subject.activations(prompts.tokens, points)
        parallel = bool(subject.bridge.cfg.parallel_attn_mlp)
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        for prompt in range(len(prompts)):
            reached = torch.zeros(n_positions, device=subject.device)
            reached[-1] = 1
            of_prompt = {point: one[prompt].float() for point, one in h.items()}
            for layer in reversed(range(n_layers)):
                read = read_by_heads(
                    AttentionOutput.of(subject, layer),
                    of_prompt,
                    seen["hook_pattern"][layer][prompt],
                    subject.tolerance,
                )
                streams = _streams(of_prompt, layer)
                along, reached = routes(read, streams, reached, parallel)
                n_kv_heads = h[Site.V, layer].shape[2]
                by_query_head = along[Site.V].reshape(n_positions, n_kv_heads, -1)
                along[Site.V] = by_query_head.amax(dim=-1)
                for site in grid.sites:
                    scores[prompt, grid.rows(site), layer] = grid.at_points(
                        site, along[site][None]
                    )[0]
        return Attribution(scores.mean(dim=0), prompt_scores=scores)


class Read(NamedTuple):
    """What heads add to a stream: `share` of a source at a position, times what is `written`."""

    share: Float[Tensor, "head position source"]
    written: Float[Tensor, "head source width"]


def read_by_heads(
    output: AttentionOutput,
    h: Activations,
    pattern: Float[Tensor, "head query key"],
    tolerance: float,
) -> Read:
    """What every head adds to the stream of a position from each source; without the bias.

    Raises:
        UnknownAttentionOutputError: if all of it and the bias are not the attention's output.
    """
    v = h[Site.V, output.layer]
    v = v.repeat_interleave(len(pattern) // v.shape[1], dim=1)
    written = torch.einsum("jhd,hde->hje", v, output.weight)
    total = torch.einsum("hqj,hje->qe", pattern, written) + output.bias
    output.check_total(total, h[Site.ATTN_OUT, output.layer], tolerance)
    if output.norm is None:
        return Read(pattern, written)
    share = pattern / output.norm.scale(total)[None, :, None]
    return Read(share, output.norm.unscaled(written))


def nearness(
    y: Float[Tensor, "position width"], part: Float[Tensor, "position width"]
) -> Float[Tensor, " position"]:
    """max(0, |y|_1 - |y - f|_1) of a part f."""
    return (y.abs().sum(dim=-1) - (y - part).abs().sum(dim=-1)).clamp_min(0)


def nearness_of_reads(
    y: Float[Tensor, "position width"], read: Read
) -> Float[Tensor, "head position source"]:
    """The same of what each head reads from each source, by pieces that stay in a CPU's cache.

    No position reads a later one, whose parts are 0.
    """
    near, length = torch.zeros_like(read.share), y.abs().sum(dim=-1)
    n_heads, n_positions, _ = near.shape
    step = max(1, PIECE // read.written[0].numel())
    for start in range(0, n_positions, step):
        at, before = slice(start, start + step), slice(0, start + step)
        for head in range(n_heads):
            share, written = read.share[head, at, before, None], read.written[head, before]
            rest = torch.addcmul(y[at, None], share, written, value=-1).abs_().sum(dim=-1)
            near[head, at, before] = length[at, None] - rest
    return near.clamp_min_(0)


def shares(
    near: Sequence[Float[Tensor, "*head position *source"]],
) -> list[Float[Tensor, "*head position *source"]]:
    """How important each part of a stream is: all of them normalised to a sum of 1."""
    whole = [one if one.dim() == 1 else one.sum(dim=(0, 2)) for one in near]
    total = torch.stack(whole).sum(dim=0).clamp_min(torch.finfo(whole[0].dtype).tiny)
    return [one / (total if one.dim() == 1 else total[:, None]) for one in near]


def _streams(h: Activations, layer: int) -> dict[str, Tensor]:
    """The streams of a layer of one prompt, and what its MLP adds."""
    post, mlp, attn = (h[site, layer] for site in (Site.RESID_POST, Site.MLP_OUT, Site.ATTN_OUT))
    before = h[Site.RESID_POST, layer - 1] if layer else post - mlp - attn
    return {"before": before, "middle": before + attn, "mlp": mlp, "after": post}


def routes(
    read: Read,
    streams: dict[str, Float[Tensor, "position width"]],
    reached: Float[Tensor, " position"],
    parallel: bool,
) -> tuple[Along, Float[Tensor, " position"]]:
    """The strongest routes through a layer, and those that reach the stream before it.

    Args:
        read: see `read_by_heads`.
        streams: before, between and after attention and MLP, and the MLP's output.
        reached: the strongest route to each position's stream after the layer.
        parallel: the MLP reads the stream before the attention.
    """
    before, mlp, after = streams["before"], streams["mlp"], streams["after"]
    along: Along = {Site.RESID_POST: reached}
    if parallel:
        to_before, to_mlp, to_read = shares(
            [nearness(after, before), nearness(after, mlp), nearness_of_reads(after, read)]
        )
        reader = reached
        by_mlp = torch.minimum(reached, to_mlp)
    else:
        middle = streams["middle"]
        to_middle, to_mlp = shares([nearness(after, middle), nearness(after, mlp)])
        by_mlp = torch.minimum(reached, to_mlp)
        reader = torch.maximum(torch.minimum(reached, to_middle), by_mlp)
        along[Site.RESID_MID] = reader
        to_before, to_read = shares([nearness(middle, before), nearness_of_reads(middle, read)])
    edges = torch.minimum(reader[:, None], to_read)
    on = torch.maximum(torch.minimum(reader, to_before), edges.amax(dim=(0, 1)))
    along[Site.MLP_OUT] = by_mlp
    along[Site.ATTN_OUT] = edges.amax(dim=(0, 2))
    along[Site.Z] = along[Site.O] = edges.amax(dim=2).T
    along[Site.V] = edges.amax(dim=1).T
    return along, torch.maximum(on, by_mlp) if parallel else on
