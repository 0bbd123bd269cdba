"""LocalRules: attribution patching with other local derivatives: RelP, AttnLRP, CP-LRP, GIM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.attr_patch import taylor_scores
from methods.contrasted import ContrastedMethod
from methods.core.corruption import Contrast
from methods.core.local_rules import Rules, local_rules
from methods.core.points import PointGrid, Site
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

RULES = {
    "none": Rules(),
    "relp": Rules(hold_norms=True, hold_activations=True, gate="half"),
    "attn_lrp": Rules(True, True, "half", values=0.5, scores=0.5),
    "cp_lrp": Rules(True, True, "constant", scores=0.0),
    "gim": Rules(True, False, "half", values=0.5, scores=0.5, temperature=2.0),
}
IN_THE_STREAM = (Site.RESID_MID, Site.RESID_POST)


@dataclass(frozen=True)
class LocalRules(ContrastedMethod):
    """The score of a point is (h_clean - h_corrupted) . g, g from a backward by local rules.

    The logits, and all else in the forward, are those of the model, bit for bit; only derivatives
    are others. In all four sets of rules the scale of every norm is a constant. `relp`: an
    activation f(x) is x times the constant f(x) / x, and both factors of a gated MLP get half the
    gradient. `attn_lrp`: besides, queries and keys get a quarter of their gradient and values half.
    `cp_lrp`: gate, queries and keys are constants. `gim`: as `attn_lrp` with ordinary activations
    and the derivative of a softmax at temperature 2. `none`: AttrPatch.

    Source: `relp`: 'RelP: Faithful and Efficient Circuit Discovery via Relevance Patching' (Rezaei
    Jafari et al. 2025). `attn_lrp`: 'AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for
    Transformers' (Achtibat et al. 2024). `cp_lrp`: 'XAI for Transformers: Better Explanations
    through Conservative Propagation' (Ali et al. 2022). `gim`: 'GIM: Improved Interpretability for
    Large Language Models' (Edin et al. 2025). `drop`: 'AtP*: An efficient and scalable method for
    localizing LLM behaviour to components' (Kramar et al. 2024), Eq. 11.

    Attributes:
        rules: which derivatives are replaced.
        hold_pattern: the attention pattern is a constant, too.
        drop: GradDrop: a backward a layer, in each of which no gradient passes through what that
            layer adds to the stream; the score is the sum of their magnitudes over the number of
            backwards that the point has part in, with the sign of the ordinary score on the prompt.
    """

    rules: Literal["none", "relp", "attn_lrp", "cp_lrp", "gim"] = "relp"
    hold_pattern: bool = False
    drop: bool = False

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """With GradDrop one more than layers."""
        return 1 + n_layers if self.drop else 1

    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """One forward of either run and one backward; with GradDrop one more of both a layer.

        Raises:
            UserInputError: if the model's parts cannot be told apart as the rules need.
        """
        rules = RULES[self.rules]
        if self.hold_pattern:
            rules = replace(rules, scores=0.0)
        with local_rules(subject, rules):
            ordinary = taylor_scores(subject, grid, contrast)
            if not self.drop:
                return ordinary
            return graddrop(subject, grid, ordinary, lambda: taylor_scores(subject, grid, contrast))


def graddrop(
    subject: SubjectModel,
    grid: PointGrid,
    ordinary: Float[Tensor, "prompt place layer position"],
    scores_now: Callable[[], Float[Tensor, "prompt place layer position"]],
) -> Float[Tensor, "prompt place layer position"]:
    """The mean magnitude over backwards that each leave a layer out, signed as `ordinary`.

    Args:
        subject: the model.
        grid: the points.
        ordinary: scores with no layer left out.
        scores_now: gives scores by the gradients that the model has when it is called.

    Raises:
        UserInputError: for a model of one layer, from whose attention and MLP no backward is left,
            and for one that has a layer without attention or MLP.
    """
    in_stream = torch.tensor([place.site in IN_THE_STREAM for place in grid.places])
    if grid.n_layers == 1 and not bool(in_stream.all()):
        raise UserInputError("drop: GradDrop leaves nothing of a model of one layer.")
    total = torch.zeros_like(ordinary)
    for layer in range(grid.n_layers):
        added = (f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.hook_mlp_out")
        if any(name not in subject.points_by_name for name in added):
            raise UserInputError(
                f"drop: GradDrop leaves out what attention and MLP add, and layer {layer} of "
                f"{subject.bridge.cfg.architecture} has not both."
            )
        with subject.attached([(name, lambda h, hook: h.detach()) for name in added]):
            scores = scores_now().abs()
        scores[:, ~in_stream, layer] = 0
        total += scores
    n_backwards = grid.n_layers - 1 + in_stream.int()
    return ordinary.sign() * total / n_backwards.to(total.device)[:, None, None]
