"""DynScalar: dynamic activation scalars trained on Psi (Eq. 10 and 9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.attention_output import heads_outputs
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hidden_scaling import HiddenScaling
from methods.core.intervention import behind
from methods.core.memory import require_memory
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveInt, initial
from methods.method import LATER, Attribution, Setting
from methods.trained import COPIES_WHILE_TRAINING, TrainedMethod
from tasks.errors import UserInputError


@dataclass(frozen=True)
class DynScalar(TrainedMethod):
    """The score of a point is the mean over prompts of its scalar alpha(h) at beta = 0.

    Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
    Findings of EMNLP 2024), Eq. 10 and 9.

    Attributes:
        hidden: units of a hidden layer, alpha = sum of w_n f(u_n . h / ||h||), each (place, layer)
            with its own; None is the paper's Eq. 10, one linear unit with w = 1.
        activation: f of the hidden units; `linear` has no more to say than Eq. 10.
        rank: of the gates of a place's layers as a matrix (layer, width); with the number of layers
            any gates can be had, None is full rank.
    """

    any_length: ClassVar[bool] = True

    hidden: PositiveInt | None = field(default=None, metadata=LATER)
    activation: Literal["tanh", "relu", "linear"] = field(default="tanh", metadata=LATER)
    rank: PositiveInt | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if self.hidden is not None and self.rank is not None:
            raise UserInputError(
                "hidden, rank: directions that all layers share are of gates without a hidden "
                "layer; leave one of the two out."
            )
        if self.hidden is None and self.activation != "tanh":
            raise UserInputError(
                f'activation: "{self.activation}" is that of a hidden layer; `hidden: 8` makes one.'
            )

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Trains one gate a (place, layer).

        Raises:
            NotEnoughMemoryError: if hidden units and what Adam keeps of them do not fit.
        """
        scaling = self.untrained(subject, grid, setting).to(subject.device)
        trace = self.train(subject, scaling, prompts, setting)
        per_prompt = unsteered_scalars(subject, prompts, scaling)
        return Attribution(
            per_prompt.mean(dim=0),
            prompt_scores=per_prompt,
            intervention=scaling,
            steps=trace.steps,
            reach=trace.steps * self.learning_rate,
        )

    def untrained(self, subject: SubjectModel, grid: PointGrid, setting: Setting) -> DynamicScaling:
        """The gates before training; of hidden units u has length 1 on average, w is near 0."""
        n_places, width = len(grid.places), max(grid.widths(subject.d_model))
        output = heads_outputs(subject) if Site.O in grid.sites else None
        units = self.hidden or self.rank
        if units is None:
            start = self.initial((n_places, grid.n_layers, width), setting)
            return DynamicScaling(grid, start, output)
        shape = (n_places, 1 if self.rank else grid.n_layers, units, width)
        require_memory(
            COPIES_WHILE_TRAINING * 4 * n_places * grid.n_layers * units * width,
            subject.device,
            f"{units} units of width {width} for {n_places * grid.n_layers} gates in training",
            "fewer units, sites or layers",
        )
        directions = initial(shape, width**-0.5, setting.seed)
        outer = self.initial((n_places, grid.n_layers, units), setting)
        activation = "linear" if self.rank else self.activation
        return HiddenScaling(grid, directions, outer, output, activation=activation)


@torch.no_grad()
def unsteered_scalars(
    subject: SubjectModel, prompts: Prompts, scaling: DynamicScaling
) -> Float[Tensor, "prompt place layer position"]:
    """alpha(h) of every prompt at the activations of the unsteered run, 0 at padding and BOS."""
    grid = scaling.grid
    scores = scaling.gates.new_zeros((len(prompts), *grid.shape))
    seen = subject.activations(prompts.tokens, grid.site_layers, mask=prompts.mask)
    for (site, layer), h in seen.items():
        scores[:, grid.rows(site), layer] = scaling.alpha(site, layer, h)
    if prompts.first is not None:
        acts = behind(prompts.first, prompts.n_positions)[:, list(grid.positions)]
        scores = scores * acts[:, None, None]
    return scores
