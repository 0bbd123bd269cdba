"""Circuits: runs in which some nodes do what they do, and all others what the corrupted run has.

A node is what an attention layer, a head or an MLP adds to the residual stream, at all positions of
the prompt. Nodes of a circuit C work from what arrives in the run; every other node is set to its
activation as stored from the corrupted run. The embedding belongs to no circuit: what it adds to
the logits directly is the corrupted prompt's, while the nodes of C read the clean one (else nothing
clean could enter). So the empty circuit is the corrupted run, also where the last token differs;
the whole model, of all nodes and the embedding, is the clean one.

Source: 'MIB: A Mechanistic Interpretability Benchmark' (Mueller et al. 2025), circuits of nodes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.core.hooks import Activations, SiteLayer
from methods.core.points import HEAD_SITES, PointGrid, Site
from methods.core.prefix import Prefix
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

ATTENTION = (Site.Z, Site.O, Site.ATTN_OUT)
"""Sites of which one is taken for what attention adds; o is edited at z."""
Nodes = Bool[Tensor, "*circuit place layer"]
"""Whether a node takes part, over the places of `node_grid`."""


def node_grid(grid: PointGrid) -> PointGrid:
    """The part of a grid whose places are nodes of a circuit, at all of its positions.

    Raises:
        UserInputError: unless the grid has MLPs and either heads or whole attention outputs.
    """
    attention = [site for site in grid.sites if site in ATTENTION]
    if len(attention) != 1 or Site.MLP_OUT not in grid.sites:
        raise UserInputError(
            f"circuit: a circuit's nodes are mlp_out and one of {', '.join(ATTENTION)}, which "
            "together make up the residual stream; the sites of the matrix are "
            f"{', '.join(grid.sites)}."
        )
    return replace(grid, sites=(attention[0], Site.MLP_OUT))


def node_scores(
    grid: PointGrid,
    scores: Float[Tensor, "place layer position"],
    *,
    sizes: bool = False,
) -> Float[Tensor, "node_place layer"]:
    """Scores of nodes: those of their points, summed over positions.

    Args:
        grid: of the scores.
        scores: NaN at points that are left out, which add nothing.
        sizes: sum |score|, so that positions of opposite sign do not cancel.

    Raises:
        UserInputError: as `node_grid`.
    """
    nodes = node_grid(grid)
    chosen = torch.cat([scores[grid.rows(site)] for site in nodes.sites]).nan_to_num(nan=0.0)
    return (chosen.abs() if sizes else chosen).sum(dim=-1)


@dataclass(frozen=True, eq=False)
class CircuitEdit:
    """Sets all nodes but those of a row's circuit to their activation in the corrupted run.

    Attributes:
        grid: its places are the nodes.
        kept: the circuit of every row.
        corrupted: activations of every prompt at every node, of the positions that are run.
        prompts: which prompt each row is.
        embedding: what is added to the last residual stream at the answer position of each row.
    """

    grid: PointGrid
    kept: Nodes
    corrupted: Activations
    prompts: Int[Tensor, " row"]
    embedding: Float[Tensor, "row d_model"] | None

    @property
    def points(self) -> Collection[SiteLayer]:
        """Every node, and the last residual stream where the embedding differs there."""
        final = [(Site.RESID_POST, self.grid.n_layers - 1)]
        return [*self.grid.site_layers, *(final if self.embedding is not None else [])]

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation that takes the place of `h`."""
        if site is Site.RESID_POST:
            assert self.embedding is not None
            return torch.cat([h[:, :-1], h[:, -1:] + self.embedding[:, None].to(h.dtype)], dim=1)
        kept = self.kept[:, self.grid.rows(site), layer]
        kept = kept[:, None, :, None] if site in HEAD_SITES else kept[:, :, None]
        return torch.where(kept, h, self.corrupted[site, layer][self.prompts].to(h.dtype))


class CircuitRuns:
    """Runs of prompts through circuits, from the first token on that differs.

    Attributes:
        grid: the nodes are its places and layers.
        clean, corrupted: LD of every prompt in the two plain runs.

    Raises:
        UserInputError: as `node_grid`, and for sites that the model has not.
        NotEnoughMemoryError: if the corrupted run's activations do not fit.
    """

    @torch.no_grad()
    def __init__(self, subject: SubjectModel, prompts: Prompts, grid: PointGrid) -> None:
        self.subject, self.prompts = subject, prompts
        self.grid = node_grid(grid)
        subject.check_sites(self.grid.sites)  # before hooks of ours: it may run the model
        differs = (prompts.tokens != prompts.corrupted).any(dim=0).cpu()
        first = int(differs.int().argmax()) if differs.any() else prompts.n_positions - 1
        self._prefix = Prefix.of(subject, prompts, first)
        entering: list[Tensor] = []
        keep = [("blocks.0.hook_resid_pre", lambda h, hook: entering.append(h[:, -1].detach()))]
        with subject.attached(keep):
            activations, logits = subject.activations_and_logits(
                prompts.corrupted, self.grid.site_layers, mask=prompts.mask
            )
            n_chunks = len(entering)
            clean = subject.unsteered_logits(prompts.tokens, mask=prompts.mask)
        change = torch.cat(entering[:n_chunks]) - torch.cat(entering[n_chunks:])
        self._embedding = change if bool(change.any()) else None
        start = self._prefix.length
        self._corrupted = {point: h[:, start:] for point, h in activations.items()}
        self.clean: Float[Tensor, " prompt"] = prompts.logit_difference(clean)
        self.corrupted: Float[Tensor, " prompt"] = prompts.logit_difference(logits)

    @property
    def shape(self) -> tuple[int, int]:
        """(places, layers) of the nodes."""
        return self.grid.shape[:2]

    @torch.no_grad()
    def logit_differences(self, circuits: Nodes) -> Float[Tensor, "circuit prompt"]:
        """LD of every prompt in every circuit, a row of a forward each.

        Args:
            circuits: (circuit, place, layer); one with all nodes is the whole model.
        """
        n_prompts, device = len(self.prompts), self.subject.device
        circuits = circuits.to(device)
        whole = circuits.flatten(1).all(dim=1)
        ld = torch.empty(len(circuits) * n_prompts, device=device)
        for rows in self.subject.chunks(len(ld)):
            index = torch.arange(len(ld), device=device)[rows]
            circuit, prompt = index // n_prompts, index % n_prompts
            embedding = None
            if self._embedding is not None:
                embedding = self._embedding[prompt] * ~whole[circuit, None]
            edit = CircuitEdit(self.grid, circuits[circuit], self._corrupted, prompt, embedding)
            logits = self._prefix.logits(self.subject, prompt, edit)
            ld[rows] = self.prompts.take(prompt).logit_difference(logits)
        return ld.view(len(circuits), n_prompts)
