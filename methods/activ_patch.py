"""ActivPatch: activation patching, one patched forward a point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.corruption import (
    Contrast,
    Corruption,
    Direction,
    check_direction,
    contrasts,
    differing_positions,
)
from methods.core.intervention import PatchedRows
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import Point, SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class ActivPatch(Method):
    """The score of a point is what its clean activation is worth in logit difference.

    Noising: LD(clean) - LD(clean run with this activation from the corrupted run).
    Denoising: LD(corrupted run with this clean activation) - LD(corrupted).
    A point whose activation is the same in both runs scores exactly 0 without being run.

    Source: 'Locating and Editing Factual Associations in GPT' (Meng et al. 2022) for denoising;
    'How to use and interpret activation patching' (Heimersheim and Nanda 2024) for both.

    Attributes:
        corruption: what the clean run is contrasted with.
        direction: which of the two runs is patched.
    """

    corruption: Corruption = "counterfactual"
    direction: Direction = "noising"

    def __post_init__(self) -> None:
        check_direction(self.corruption, self.direction)

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Runs every patch of every prompt, many of them as rows of one forward."""
        found = contrasts(subject, prompts, grid, self.corruption, self.direction, setting.seed)
        scores = torch.stack([patch_scores(subject, grid, contrast) for contrast in found])
        per_prompt = scores.mean(dim=0)
        return Attribution(per_prompt.mean(dim=0), prompt_scores=per_prompt)


@torch.no_grad()
def patch_scores(
    subject: SubjectModel, grid: PointGrid, contrast: Contrast
) -> Float[Tensor, "prompt site layer position"]:
    """sign (LD(receiver) - LD(receiver with one activation replaced)) for every point."""
    receiver = contrast.receiver
    prompts = receiver.prompts
    unpatched = receiver.logit_difference(subject)
    scores = unpatched.new_zeros((len(prompts), *grid.shape))
    patches = _patches(subject, grid, contrast)
    for rows in subject.chunks(len(patches)):
        index = patches[rows]
        row_prompts = prompts.take(index[:, 0])
        noise = None if receiver.noise is None else receiver.noise[index[:, 0]]
        edit = _patched_rows(grid, contrast, index)
        ld = row_prompts.logit_difference(subject.logits(row_prompts.tokens, edit, noise))
        scores[tuple(index.T)] = contrast.sign * (unpatched[index[:, 0]] - ld)
    return scores


def _patches(
    subject: SubjectModel, grid: PointGrid, contrast: Contrast
) -> Int[Tensor, "patch prompt_site_layer_position"]:
    """The patches that have to be run, ordered by layer, so that rows of a forward are alike."""
    ours = contrast.receiver.activations(subject, grid.points)
    positions = torch.tensor(grid.positions, device=subject.device)
    patches = []
    for (site, layer), donated in contrast.donated.items():
        where = differing_positions(ours[site, layer], donated, positions)
        index = torch.empty((len(where), 4), dtype=torch.int64, device=where.device)
        index[:, 0], index[:, 3] = where[:, 0], where[:, 1]
        index[:, 1], index[:, 2] = grid.sites.index(site), layer
        included = grid.included.to(where.device)[index[:, 1], index[:, 2], index[:, 3]]
        patches.append(index[included])
    return torch.cat(patches)


def _patched_rows(grid: PointGrid, contrast: Contrast, index: Tensor) -> PatchedRows:
    """The edit that makes row r of a forward carry out patch r of `index`."""
    positions = torch.tensor(grid.positions, device=index.device)
    edits: dict[Point, tuple[Tensor, Tensor, Tensor]] = {}
    for site, layer in torch.unique(index[:, 1:3], dim=0).tolist():
        point = grid.sites[site], layer
        rows = ((index[:, 1] == site) & (index[:, 2] == layer)).nonzero()[:, 0]
        where = positions[index[rows, 3]]
        edits[point] = rows, where, contrast.donated[point][index[rows, 0], where]
    return PatchedRows(edits)
