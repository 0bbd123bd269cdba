"""PathGradients: gradients summed along a path from the corrupted run to the clean one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.contrasted import ContrastedMethod
from methods.core.corruption import BASELINES, Contrast
from methods.core.hooks import SiteLayer
from methods.core.paths import Between, Rule, run_between, weights
from methods.core.points import PointGrid
from methods.core.subject import SubjectModel
from methods.core.training import PositiveInt
from tasks.errors import UserInputError

BETWEEN_RUNS = ("clean_corrupted", "inputs", "conductance")
"""Paths whose two ends are runs, and which are the same from either."""


@dataclass(frozen=True)
class PathGradients(ContrastedMethod):
    """The score of a point is its change times the gradient g of LD, summed along a path.

    `clean_corrupted`: (h_clean - h_corrupted) . (g(clean) + g(corrupted)) / 2, the mean of
    AttrPatch's two directions. `inputs`: (h_clean - h_corrupted) . the mean of g over runs whose
    embeddings lie between the corrupted and the clean ones (EAP-IG at nodes). `conductance`: the
    change of h from one of these runs to the next times g there, summed; over every cut through
    the network these scores add up to LD_clean - LD_corrupted in the limit of many steps.
    `activations`: the points of one layer and site move together from the donor's activations to
    the receiver's; their scores add up to the effect of patching them at once. `joint`: all points
    of the grid move together, each from the donor's activation to the one that arrives in that run.

    Source: 'Have Faith in Faithfulness: Going Beyond Circuit Overlap When Finding Model Mechanisms'
    (Hanna, Pezzelle and Belinkov 2024) for `inputs`; 'How Important Is a Neuron?' (Dhamdhere,
    Sundararajan and Yan 2018) for `conductance`; 'Sparse Feature Circuits' (Marks et al. 2024) for
    `activations`; 'Values of Non-Atomic Games' (Aumann and Shapley 1974) for `joint`; all rest on
    'Axiomatic Attribution for Deep Networks' (Sundararajan, Taly and Yan 2017).

    Attributes:
        path: along what gradients are taken.
        steps: of the path; `clean_corrupted` has one, whatever this says.
        rule: where in a step g is taken: in its middle, at its end (as public code of EAP-IG does),
            or at both ends. None: the middle; for `conductance`, whose activations are known at the
            ends alone, and `clean_corrupted` both ends.
        over_prompts: the score of a point on a prompt is the signed number, or its magnitude, which
            does not cancel between prompts.
    """

    path: Literal["clean_corrupted", "inputs", "conductance", "activations", "joint"] = "inputs"
    steps: PositiveInt = 5
    rule: Rule | None = None
    over_prompts: Literal["signed", "magnitude"] = "signed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path in BETWEEN_RUNS and self.corruption in BASELINES:
            raise UserInputError(
                f'corruption: the path "{self.path}" needs a corrupted run, which '
                f'"{self.corruption}" does not have; the paths "activations" and "joint" need none.'
            )
        if self.path in BETWEEN_RUNS and self.direction == "denoising":
            raise UserInputError(
                f'direction: the path "{self.path}" is the same from both runs; leave it "noising".'
            )
        if self.path == "conductance" and self.rule == "middle":
            raise UserInputError('rule: the path "conductance" takes "trapezoid" or "end".')
        if self.path == "clean_corrupted" and self.rule is not None:
            raise UserInputError(
                f'rule: the path "clean_corrupted" has one step, with g at both of its ends; leave '
                f'"{self.rule}" out.'
            )

    @property
    def signed(self) -> bool:
        """Not of magnitudes averaged over prompts."""
        return self.over_prompts == "signed"

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """One a place on the path; of `activations` for every site and layer."""
        return len(self._places) * (n_layers * n_sites if self.path == "activations" else 1)

    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """A forward and a backward at every place of the path."""
        scores = torch.zeros((len(contrast.receiver.prompts), *grid.shape), device=subject.device)
        if self.path == "conductance":
            found = self._by_change(subject, grid, contrast)
        elif self.path in BETWEEN_RUNS:
            found = self._between_runs(subject, grid, contrast)
        else:
            found = self._between_activations(subject, grid, contrast)
        for (site, layer), product in found:
            scores[:, grid.rows(site), layer] += grid.at_points(site, product)
        scores *= contrast.sign
        return scores.abs() if self.over_prompts == "magnitude" else scores

    @property
    def _places(self) -> dict[float, float]:
        """Places on the path with their weights."""
        if self.path == "clean_corrupted":
            return weights(1, "trapezoid")
        if self.path == "conductance":
            return weights(self.steps, "trapezoid")  # their activations are needed in any case
        return weights(self.steps, self.rule or "middle")

    def _between_runs(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Iterator[tuple[SiteLayer, Tensor]]:
        """(h_clean - h_corrupted) . g, place by place."""
        clean = contrast.receiver.activations(subject, grid.site_layers)
        for at, weight in self._places.items():
            run = run_between(subject, contrast, at)
            taps = subject.activations_and_gradients(run.prompts, grid.site_layers, run.noise)
            for point, (_, gradient) in taps.items():
                change = clean[point].float() - contrast.donated[point].float()
                yield point, weight * (change * gradient.float()).sum(dim=-1)

    def _by_change(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Iterator[tuple[SiteLayer, Tensor]]:
        """(h_k - h_k-1) . g, step by step, with g at its end or the mean of both ends."""
        before: dict[SiteLayer, tuple[Tensor, Tensor]] = {}
        for at in self._places:
            run = run_between(subject, contrast, at)
            taps = subject.activations_and_gradients(run.prompts, grid.site_layers, run.noise)
            for point, (h_before, g_before) in before.items():
                h, gradient = taps[point]
                if self.rule != "end":
                    gradient = (gradient.float() + g_before.float()) / 2
                yield point, ((h.float() - h_before.float()) * gradient.float()).sum(dim=-1)
            before = taps

    def _between_activations(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Iterator[tuple[SiteLayer, Tensor]]:
        """(h - h_donated) . g with h as it arrives, place by place."""
        receiver, points = contrast.receiver, grid.site_layers
        groups = [[point] for point in points] if self.path == "activations" else [points]
        for group in groups:
            for at, weight in self._places.items():
                moved = Between.all_at(grid, contrast.donated, at, group)
                taps = subject.activations_and_gradients(
                    receiver.prompts, group, receiver.noise, moved.of_rows
                )
                for point, (h, gradient) in taps.items():
                    change = h.float() - contrast.donated[point].float()
                    yield point, weight * (change * gradient.float()).sum(dim=-1)
