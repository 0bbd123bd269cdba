"""One-point steering: does the score of a point say how far its own scalar moves the model?

Every point is scaled alone, h <- (1 + beta) h at beta = -1, -0.5, 0.5 and 1, and the response of LD
is measured exactly, as activation patching is. The sizes of these responses are then predicted from
|score|: first from site and layer alone, whose means need no method, then with |score| beside them.
The gain in R^2 is what the score says beyond where in the network a point lies. Coefficients are
fitted to the responses of all test prompts but one and judged on that one, each in turn, so that a
gain is none that noise of the prompts makes.

Points are those that could matter (`methods.controls.points_that_could_matter`): that nothing
differs before the words that differ, and that no path leads from a point, is no finding.

Source: 'Does Localization Inform Editing? Surprising Differences in Causality-Based Localization
vs. Knowledge Editing in Language Models' (Hase et al. 2023), who edit weights of a layer.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from bench.evaluation.prepare import PreparedTask
from bench.matrix.stages import ONE_POINT, OnePoint
from bench.store.cells import Tensors
from bench.store.circuit_record import OnePointFit, OnePointRecord
from methods.activ_patch import patch_scores
from methods.controls import points_that_could_matter
from methods.core.corruption import Contrast, Run
from methods.core.hooks import Activations
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

Values = NDArray[np.float64]


def one_point_steering(
    subject: SubjectModel,
    task: PreparedTask,
    scores: Float[Tensor, "place layer position"],
    setting: OnePoint,
) -> tuple[OnePointRecord, Tensors]:
    """Measures what |score| says of the response to each point's own scalar, on test prompts.

    Args:
        subject: the model.
        task: its test split is run; its train prompts say which points could matter.
        scores: of the points of the grid; NaN at those left out.
        setting: how many prompts.

    Returns:
        The record, and `one_point.change`: LD(beta) - LD(0) at beta = -1, -0.5, 0.5, 1 of every
        point (beta, place, layer, position), a mean over the prompts.

    Raises:
        UserInputError: for prompts of several lengths, or fewer than two.
    """
    changes = _shared(subject, task, min(setting.prompts, len(task.splits["test"].prompts)))
    matter = points_that_could_matter(task.train.prompts, task.grid).numpy()
    sizes = np.abs(scores.double().cpu().numpy())[matter]
    groups = _site_and_layer(task.grid)[matter]
    fits = []
    for size in ONE_POINT:
        pair = [changes[_betas().index(sign * size)].numpy() for sign in (-1, 1)]
        response = np.abs(pair).mean(axis=0)[:, matter].astype(np.float64)
        fits.append(cross_validated(size, response, sizes, groups))
    record = OnePointRecord(
        split="test", n_points=len(sizes), n_prompts=changes.shape[1], fits=fits
    )
    return record, {"one_point.change": changes.mean(dim=1).numpy()}


def cross_validated(
    size: float,
    response: Values,
    scores: Values,
    groups: NDArray[np.int64],
) -> OnePointFit:
    """R^2 of |score| with a mean for every group, and of those means alone, prompts left out.

    Args:
        size: |beta| of the responses.
        response: (prompt, point), sizes.
        scores: (point,), sizes.
        groups: (point,), from 0; of each the mean response is fitted.
    """
    known, index = np.unique(groups, return_inverse=True)
    counts = np.bincount(index, minlength=len(known))

    def means(values: Values) -> Values:
        return np.asarray((np.bincount(index, values, len(known)) / counts)[index])

    within = scores - means(scores)
    errors = []
    for prompt, held_out in enumerate(response):
        target = np.delete(response, prompt, axis=0).mean(axis=0)
        by_place = means(target)
        slope = within @ target / (within @ within) if within.any() else 0.0
        guesses = (np.full_like(target, target.mean()), by_place, by_place + slope * within)
        errors.append([float(((held_out - guess) ** 2).sum()) for guess in guesses])
    total, *of_fits = np.array(errors).T
    base, full = np.array(of_fits) / (total.mean() or np.nan)
    gains = base - full
    return OnePointFit(
        size=size,
        r2_site_layer=float(1 - base.mean()),
        r2=float(1 - full.mean()),
        gain=float(gains.mean()),
        gains=gains.tolist(),
    )


@torch.no_grad()
def responses(
    subject: SubjectModel, prompts: Prompts, grid: PointGrid, beta: float
) -> Float[Tensor, "prompt place layer position"]:
    """LD with one point's activation times (1 + beta), minus LD, of every point; 0 where no path
    leads to the answer."""
    run = Run(prompts)

    def scaled() -> Activations:
        clean = run.activations(subject, grid.site_layers)
        return {point: (1 + beta) * h for point, h in clean.items()}

    return patch_scores(subject, grid, Contrast(run, scaled, sign=-1))


def _betas() -> list[float]:
    return sorted(sign * size for size in ONE_POINT for sign in (-1, 1))


def _site_and_layer(grid: PointGrid) -> NDArray[np.int64]:
    """(place, layer, position): a number for every site and layer."""
    sites = np.array([grid.sites.index(place.site) for place in grid.places])
    layers = np.arange(grid.n_layers)
    index = sites[:, None] * grid.n_layers + layers[None]
    return np.broadcast_to(index[..., None], grid.shape)


def _shared(
    subject: SubjectModel, task: PreparedTask, n_prompts: int
) -> Float[Tensor, "beta prompt place layer position"]:
    """Responses of the first test prompts, on the CPU; they depend on no method.

    A cell that finds them counts their passes as if it had made them.
    """
    prompts = task.splits["test"].prompts
    if prompts.mask is not None or n_prompts < 2:
        problem = "prompts of several lengths" if prompts.mask is not None else "one test prompt"
        raise UserInputError(
            f"one_point: this task has {problem}; every point is compared over several prompts of "
            "one length."
        )
    if n_prompts not in task.one_point:
        before = subject.passes.forward
        chosen = prompts.take(range(n_prompts))
        found = torch.stack([responses(subject, chosen, task.grid, b).cpu() for b in _betas()])
        task.one_point[n_prompts] = found, subject.passes.forward - before
        return found
    found, passes = task.one_point[n_prompts]
    subject.passes.forward += passes
    return found
