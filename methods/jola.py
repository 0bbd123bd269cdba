"""JoLA: scales and a vector at every point, and gates that learn which of them serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.core.gated_editing import GatedEditing
from methods.core.gates import open_probability
from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveFloat
from methods.method import Attribution, Setting
from methods.trained import TrainedMethod


@dataclass(frozen=True)
class JoLA(TrainedMethod):
    """The score of a point is how much its edit changes it: ||h' - h|| / ||h||, mean over prompts.

    h' = (1 + g_2 a) * h + g_1 v at beta = 1 and the unsteered h, with hard-concrete gates g that
    say whether scaling or adding serves the point. Trained on Eq. 9 minus lambda_0 times the
    expected share of gates that are not shut; every step draws gates, and what steers has those of
    no noise. Both gates are stored (`extra.gate_scaling`, `extra.gate_adding`), and the change
    that each part makes (`extra.scaled`, `extra.added`).

    Source: 'Joint Localization and Activation Editing for Low-Resource Fine-Tuning' (Lai, Fraser
    and Titov 2025), at heads, one gate for all positions, and trained on the text that is to be
    written.

    Attributes:
        vector_learning_rate: Adam's for v, in units of the activation; `learning_rate` is for a.
        gate_learning_rate: Adam's for the gates' log alpha.
        lambda_0: what it costs to have all gates open; one of 2n gates may cost lambda_0 / 2n.
        start: log alpha before training; at 0 a gate is 0 in a sixth of draws, 1 in another.
    """

    sites: ClassVar[frozenset[Site]] = ALL_SITES - {Site.O}
    """At `o` the vectors of all heads enter one sum; those at `z` can be told apart."""

    vector_learning_rate: PositiveFloat = 1e-3
    gate_learning_rate: PositiveFloat = 0.2
    lambda_0: Annotated[float, Field(ge=0)] = 1.0
    start: float = 0.0

    @property
    def signed(self) -> bool:
        """No: the size of a change."""
        return False

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Trains a vector, scales and two gates a point.

        Raises:
            NotEnoughMemoryError: if the vectors and scales and what Adam keeps of them do not fit.
        """
        start = self.initial_channels(subject, grid, setting, "vectors and scales", kinds=2)
        log_alpha = torch.full((*grid.shape, 2), self.start)
        editing = GatedEditing(grid, start[0], start[1], log_alpha).to(subject.device)
        generator = torch.Generator().manual_seed(setting.seed)

        def draw_and_price() -> Tensor:
            editing.draw(generator)
            return self.lambda_0 * open_probability(editing.log_alpha)[editing.included].mean()

        rates = {"vectors": self.vector_learning_rate, "log_alpha": self.gate_learning_rate}
        trace = self.train(subject, editing, prompts, setting, rates, draw_and_price)
        editing.uniform = None

        add, scale = (gate.detach() for gate in editing.gates())
        changes, added, scaled = relative_changes(subject, prompts, editing).unbind()
        parts = {"added": added.mean(dim=0), "scaled": scaled.mean(dim=0)}
        return Attribution(
            changes.mean(dim=0),
            prompt_scores=changes,
            intervention=editing,
            extras={"gate_adding": add, "gate_scaling": scale, **parts},
            steps=trace.steps,
            reach=trace.steps * self.learning_rate,
        )


@torch.no_grad()
def relative_changes(
    subject: SubjectModel, prompts: Prompts, editing: GatedEditing
) -> Float[Tensor, "part prompt place layer position"]:
    """||h' - h|| / ||h|| at the unsteered h: of the whole edit, what is added, what is scaled.

    0 where h is 0, of which nothing is a share.
    """
    grid = editing.grid
    vectors, scales = editing.gated()
    found = vectors.new_zeros((3, len(prompts), *grid.shape))
    for (site, layer), everywhere in subject.activations(prompts.tokens, grid.site_layers).items():
        rows = grid.rows(site)
        h = grid.at_points(site, everywhere.float())
        add, scale = (one[rows, layer, :, : h.shape[-1]] for one in (vectors, scales))
        size = h.norm(dim=-1)
        for part, change in enumerate((scale * h + add, add.expand_as(h), scale * h)):
            share = change.norm(dim=-1) / size.clamp_min(torch.finfo(size.dtype).tiny)
            found[part, :, rows, layer] = torch.where(size > 0, share, 0)
    return found
