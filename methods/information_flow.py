"""InformationFlow: the routes along which the answer position's stream was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.attention import patched_attention
from methods.core.attention_output import AttentionOutput
from methods.core.corruption import contrasts
from methods.core.hooks import Activations
from methods.core.memory import require_memory
from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting

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
        """Two forwards, one of which notes the attention patterns.

        Raises:
            UserInputError: for a model whose heads cannot be hooked.
            UnknownAttentionOutputError: if heads do not reach the residual stream through W_O.
            NotEnoughMemoryError: if what the heads of a layer read does not fit.
        """
        n_positions, n_layers = prompts.n_positions, grid.n_layers
        n_heads = subject.bridge.cfg.n_heads
        require_memory(
            12 * n_heads * n_positions**2 * subject.d_model,
            subject.device,
            f"what {n_heads} heads read from {n_positions} positions each",
            "shorter prompts",
        )
        sites = (Site.V, Site.Z, Site.ATTN_OUT, Site.MLP_OUT, Site.RESID_POST)
        points = [(site, layer) for layer in range(n_layers) for site in sites]
        h = subject.activations(prompts.tokens, points)
        (contrast,) = contrasts(subject, prompts, grid, "zero", "noising", setting.seed)
        _, patterns = patched_attention(subject, contrast, None)
        parallel = bool(subject.bridge.cfg.parallel_attn_mlp)
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        for layer in range(n_layers):
            z, attn_out = h[Site.Z, layer].float(), h[Site.ATTN_OUT, layer].float()
            AttentionOutput.of(subject, layer).check(z, attn_out, subject.tolerance)
        for prompt in range(len(prompts)):
            reached = torch.zeros(n_positions, device=subject.device)
            reached[-1] = 1
            of_prompt = {point: one[prompt].float() for point, one in h.items()}
            for layer in reversed(range(n_layers)):
                output = AttentionOutput.of(subject, layer)
                read = read_by_heads(output, of_prompt, patterns[layer][prompt])
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


def importances(
    y: Float[Tensor, "position width"], parts: Sequence[Float[Tensor, "*part position width"]]
) -> list[Float[Tensor, "*part position"]]:
    """max(0, |y|_1 - |y - f|_1) of every part f, all of them normalised to a sum of 1."""
    length = y.abs().sum(dim=-1)
    near = [(length - (y - part).abs().sum(dim=-1)).clamp_min(0) for part in parts]
    total = sum(one.reshape(-1, len(y)).sum(dim=0) for one in near)
    assert isinstance(total, Tensor)
    return [one / total.clamp_min(torch.finfo(y.dtype).tiny) for one in near]


def read_by_heads(
    output: AttentionOutput, h: Activations, pattern: Float[Tensor, "head query key"]
) -> Float[Tensor, "head source position width"]:
    """What every head adds to the stream of a position from each source; without the bias."""
    v = h[Site.V, output.layer]
    v = v.repeat_interleave(len(pattern) // v.shape[1], dim=1)
    written = torch.einsum("jhd,hde->hje", v, output.weight)
    read = pattern.transpose(1, 2)[..., None] * written[:, :, None]
    if output.norm is None:
        return read
    return output.norm.linear(read, output.before_norm(h[Site.Z, output.layer][None])[0])


def _streams(h: Activations, layer: int) -> dict[str, Tensor]:
    """The streams of a layer of one prompt, and what its MLP adds."""
    post, mlp, attn = (h[site, layer] for site in (Site.RESID_POST, Site.MLP_OUT, Site.ATTN_OUT))
    before = h[Site.RESID_POST, layer - 1] if layer else post - mlp - attn
    return {"before": before, "middle": before + attn, "mlp": mlp, "after": post}


def routes(
    read: Float[Tensor, "head source position width"],
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
        to_before, to_mlp, to_read = importances(after, [before, mlp, read])
        reader = reached
        by_mlp = torch.minimum(reached, to_mlp)
    else:
        to_middle, to_mlp = importances(after, [streams["middle"], mlp])
        by_mlp = torch.minimum(reached, to_mlp)
        reader = torch.maximum(torch.minimum(reached, to_middle), by_mlp)
        along[Site.RESID_MID] = reader
        to_before, to_read = importances(streams["middle"], [before, read])
    edges = torch.minimum(reader, to_read)
    on = torch.maximum(torch.minimum(reader, to_before), edges.amax(dim=(0, 2)))
    along[Site.MLP_OUT] = by_mlp
    along[Site.ATTN_OUT] = edges.amax(dim=(0, 1))
    along[Site.Z] = along[Site.O] = edges.amax(dim=1).T
    along[Site.V] = edges.amax(dim=2).T
    return along, torch.maximum(on, by_mlp) if parallel else on
