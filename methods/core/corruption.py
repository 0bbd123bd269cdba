"""Corruptions: what activation patching and attribution patching contrast a clean run with.

A run is the tokens of some prompts with, possibly, noise on their embeddings. A contrast pairs
the clean run with a corrupted one, or with a baseline activation that belongs to no run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.hooks import Activations, SiteLayer
from methods.core.optimal import optimal_activations
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

Corruption = Literal["counterfactual", "zero", "mean", "optimal", "gaussian"]
"""The task's counterfactual prompt; activations replaced by 0, by their mean over the train
prompts, or by the constant that hurts least (`methods.core.optimal`); Gaussian noise on the
embeddings."""

BASELINES = ("zero", "mean", "optimal")
"""Those that have no corrupted run."""

Direction = Literal["noising", "denoising"]
"""Noising puts a corrupted activation into the clean run, denoising a clean one into the
corrupted run."""

NOISE_SCALE = 3.0
"""Standard deviation of the embedding noise, in standard deviations of the embeddings (as in
'Locating and Editing Factual Associations in GPT', Meng et al. 2022)."""

NOISE_DRAWS = 10


@dataclass(frozen=True, eq=False)
class Run:
    """Prompts with what is added to their embeddings.

    Attributes:
        prompts: the prompts; `prompts.tokens` are what is run.
        noise: added to the token embeddings.
    """

    prompts: Prompts
    noise: Float[Tensor, "prompt position d_model"] | None = None

    def activations(self, subject: SubjectModel, points: Collection[SiteLayer]) -> Activations:
        """What the points hold in this run."""
        return subject.activations(self.prompts.tokens, points, self.noise)

    def embeddings(self, subject: SubjectModel) -> Float[Tensor, "prompt position d_model"]:
        """Token embeddings as they enter the network, noise included."""
        embedded = subject.embeddings(self.prompts.tokens)
        return embedded if self.noise is None else embedded + self.noise.to(embedded.dtype)

    def logit_difference(self, subject: SubjectModel) -> Float[Tensor, " prompt"]:
        """LD of every prompt of this run."""
        return self.prompts.logit_difference(
            subject.unsteered_logits(self.prompts.tokens, self.noise)
        )


@dataclass(frozen=True, eq=False)
class Contrast:
    """A run that is patched, and the activations that are put into it.

    Attributes:
        receiver: the run that is patched.
        donor: gives the activations that replace the receiver's; called when they are asked for.
        sign: +1 where a patch takes the clean activation away (noising), -1 where it brings it
            back: sign (LD(receiver) - LD(patched)) is the score, positive where the clean
            activation favours the answer.
        donor_run: the run that `donor` reads; None for baselines, which belong to no run.
    """

    receiver: Run
    donor: Callable[[], Activations]
    sign: int
    donor_run: Run | None = None

    @cached_property
    def donated(self) -> Activations:
        """The activations that replace the receiver's, at every point of the grid."""
        return self.donor()


def check_direction(corruption: Corruption, direction: Direction) -> None:
    """Baselines have no corrupted run that could be denoised.

    Raises:
        UserInputError: for zero, mean or optimal with denoising.
    """
    if direction == "denoising" and corruption in BASELINES:
        raise UserInputError(
            f'direction: "denoising" needs a corrupted run, which the corruption "{corruption}" '
            'does not have; use "noising", or the corruption "counterfactual" or "gaussian".'
        )


def contrasts(
    subject: SubjectModel,
    prompts: Prompts,
    grid: PointGrid,
    corruption: Corruption,
    direction: Direction,
    seed: int,
) -> list[Contrast]:
    """The contrasts of a corruption: one, or one a draw of the noise. Scores are averaged."""
    clean = Run(prompts)
    points = grid.site_layers
    clean_activations = cache(lambda: clean.activations(subject, points))
    if corruption == "optimal":
        return [
            Contrast(
                clean, lambda: optimal_activations(subject, prompts, grid, clean_activations()), 1
            )
        ]
    if corruption in BASELINES:
        return [Contrast(clean, lambda: _baseline(clean_activations(), corruption), 1)]
    corrupted = _corrupted_runs(subject, prompts, corruption, seed)
    if direction == "noising":
        return [
            Contrast(clean, partial(run.activations, subject, points), 1, run) for run in corrupted
        ]
    return [Contrast(run, clean_activations, -1, clean) for run in corrupted]


def _baseline(clean: Activations, corruption: Corruption) -> Activations:
    """Zeros, or the mean over the train prompts, by layer, site and position."""
    if corruption == "zero":
        return {point: torch.zeros_like(h) for point, h in clean.items()}
    # Taken about the first prompt, the mean of equal activations is exactly that activation, so
    # that what does not differ between prompts scores exactly 0.
    return {
        point: (h[:1] + (h - h[:1]).mean(dim=0, keepdim=True)).expand_as(h)
        for point, h in clean.items()
    }


def _corrupted_runs(
    subject: SubjectModel, prompts: Prompts, corruption: Corruption, seed: int
) -> list[Run]:
    if corruption == "counterfactual":
        swapped = Prompts(
            prompts.corrupted, prompts.tokens, prompts.answers, prompts.foils, prompts.has_bos
        )
        return [Run(swapped)]
    deviation = NOISE_SCALE * subject.embeddings(prompts.tokens).float().std()
    generator = torch.Generator().manual_seed(seed)
    shape = (len(prompts), prompts.n_positions, subject.d_model)
    runs = []
    for _ in range(NOISE_DRAWS):
        noise = deviation * torch.randn(shape, generator=generator).to(subject.device)
        if prompts.has_bos:
            noise[:, 0] = 0
        runs.append(Run(prompts, noise))
    return runs
