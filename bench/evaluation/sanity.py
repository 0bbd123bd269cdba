"""Sanity: does a method's map change where it has to?

- *Weights.* The entries of every matrix are permuted, layer by layer from the last one down, and
  the method is fitted again (cascading randomisation). A map that stays says nothing about what the
  model has learned. Vectors (norms, biases), embeddings and the unembedding stay as they are, so
  that the logits of the model that is left are of the usual size.
- *Answers.* The method is fitted to the same prompts with another prompt's answer and foil. A map
  that stays does not depend on what is asked. The pair of the next prompt is taken that has neither
  token; where there is none, as with two tokens that all prompts share, that is not measured.

All maps are of the same prompts and points, the method's own too. Weights are exchanged for
permuted copies while a method is fitted: the model's own tensors are never written to.

Source: 'Sanity Checks for Saliency Maps' (Adebayo et al. 2018); 'CausalGym' (Arora et al. 2024) for
selectivity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from bench.evaluation.attribution import BadScoresError, fit
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.sparsity import strongest
from bench.matrix.stages import Sanity
from bench.store.cells import Tensors
from bench.store.records import MAIN_K
from bench.store.sanity_record import SanityRecord, SanityRow
from methods.controls import points_that_could_matter
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Method, Setting
from tasks.errors import UserInputError

ROUNDING = 1e-6
"""Of the largest |score|: scores that differ by less are equal."""
Map = Float[Tensor, "place layer position"]


def check_sanity(
    method: Method, subject: SubjectModel, task: PreparedTask, setting: Sanity, around: Setting
) -> tuple[SanityRecord, Tensors]:
    """Fits a method where its map has to change, and compares it with its own.

    Args:
        method: what is fitted; of a trained one answers alone are exchanged.
        subject: the model; its weights are the same afterwards.
        task: its first train prompts are used, and the answers of all of them.
        setting: steps from the last layer to the first, prompts, and positions of a method that
            runs every point.
        around: what surrounds the cell's own fit.

    Returns:
        The record, and `sanity.maps` (map, place, layer, position): the own map, then a map a row.
    """
    of_train = task.train.prompts
    n = min(setting.prompts, len(of_train))
    prompts, grid = of_train.take(range(n)), task.grid
    if method.runs_every_point:
        grid = thinned(grid, prompts, setting.positions)
        around = _at_positions(around, task.grid, grid)
    own = fit(method, subject, prompts, grid, around)[0].scores
    maps: list[tuple[str, int, Map]] = []
    goes_on = subject.goes_on_from_a_cache  # is tried on the model as it is
    if not method.trained:
        for layers in _permuting(subject, setting.depths, around.seed):
            maps.append(("weights", layers, _map(method, subject, prompts, grid, around)))
    subject.goes_on_from_a_cache = goes_on
    asked = other_answers(of_train, n)
    if asked is not None:
        maps.append(("answers", 0, _map(method, subject, asked, grid, around)))
    points = points_that_could_matter(prompts, grid)
    record = SanityRecord(
        n_prompts=n,
        positions=list(grid.positions),
        n_points=int(points.sum()),
        shared_by_chance=min(1.0, MAIN_K / int(points.sum())),
        rows=[
            SanityRow(what=what, layers=layers, **compared(own, other, points, around.seed))
            for what, layers, other in maps
        ],
    )
    stored = torch.stack([own, *(other for _, _, other in maps)])
    return record, {"sanity.maps": stored.numpy()}


def compared(
    own: Map, other: Map, points: Bool[Tensor, "place layer position"], seed: int
) -> dict[str, float]:
    """How far two maps are the same, by the names of `SanityRow`.

    Args:
        own: the method's map of what is asked.
        other: one that should differ.
        points: to compare.
        seed: decides between points of equal size, anew in each map.
    """
    a, b = (_rounded(one[points].double().numpy()) for one in (own, other))
    k = min(MAIN_K, len(a))
    first, second = (
        strongest(torch.from_numpy(one), k, seed + at) for at, one in enumerate((a, b))
    )
    known = bool(np.isfinite(b).all())
    scale = float(np.abs(own[points].numpy()).mean())
    return {
        "rho": _rank_correlation(a, b),
        "size_rho": _rank_correlation(np.abs(a), np.abs(b)),
        "shared": float((first & second).sum()) / k if known else np.nan,
        "size": float(np.abs(other[points].numpy()).mean()) / scale if scale else np.nan,
    }


def _rounded(scores: np.ndarray) -> np.ndarray:
    largest = np.abs(scores).max(initial=0.0)
    return np.round(scores / (ROUNDING * largest)) if largest > 0 else scores


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; NaN for no numbers, or the same number everywhere."""
    if not all(np.isfinite(one).all() and len(np.unique(one)) > 1 for one in (a, b)):
        return np.nan
    return float(spearmanr(a, b).statistic)


def _map(
    method: Method, subject: SubjectModel, prompts: Prompts, grid: PointGrid, around: Setting
) -> Map:
    """The scores of a fit; NaN where the method or the model gives no numbers."""
    try:
        return fit(method, subject, prompts, grid, around)[0].scores
    except (BadScoresError, UserInputError):
        return torch.full(grid.shape, torch.nan)


def thinned(grid: PointGrid, prompts: Prompts, number: int) -> PointGrid:
    """The grid at some positions, evenly spaced from the first token that differs to the last."""
    matter = points_that_could_matter(prompts, grid).any(dim=(0, 1)).nonzero()[:, 0]
    chosen = np.unique(np.linspace(0, len(matter) - 1, min(number, len(matter))).round())
    return replace(grid, positions=tuple(grid.positions[int(matter[int(at)])] for at in chosen))


def _at_positions(around: Setting, grid: PointGrid, chosen: PointGrid) -> Setting:
    """What surrounds a fit at some of a grid's positions."""
    if around.parent_scores is None:
        return around
    columns = [grid.positions.index(position) for position in chosen.positions]
    return replace(around, parent_scores=around.parent_scores[..., columns])


def other_answers(prompts: Prompts, number: int) -> Prompts | None:
    """The first prompts with the answer and foil of another one; None where one finds none.

    Args:
        prompts: of train.
        number: how many of them.
    """
    pairs = list(zip(prompts.answers.tolist(), prompts.foils.tolist(), strict=True))
    found = []
    for at in range(number):
        after = [*range(at + 1, len(pairs)), *range(at)]
        partner = next((other for other in after if not {*pairs[other]} & {*pairs[at]}), None)
        if partner is None:
            return None
        found.append(partner)
    first = prompts.take(range(number))
    return replace(first, answers=prompts.answers[found], foils=prompts.foils[found])


def _permuting(subject: SubjectModel, depths: int, seed: int) -> Iterator[int]:
    """Yields numbers of layers from the last one down, whose weights are permuted meanwhile."""
    blocks: list[nn.Module] = list(subject.bridge.blocks)
    ends = sorted({max(1, round(len(blocks) * at / depths)) for at in range(1, depths + 1)})
    generator = torch.Generator().manual_seed(seed)
    with ExitStack() as stack:
        done = 0
        for end in ends:
            upper = blocks[len(blocks) - end : len(blocks) - done]
            stack.enter_context(weights_permuted(reversed(upper), generator))
            done = end
            yield end


@contextmanager
def weights_permuted(blocks: Iterable[nn.Module], generator: torch.Generator) -> Iterator[None]:
    """Within the block all matrices of some modules are copies with their entries permuted.

    The modules hold their own tensors again at its end, which nobody has written to.

    Args:
        blocks: the modules, in the order in which their entries are drawn.
        generator: of the permutations.
    """
    own: list[tuple[nn.Module, str, nn.Parameter]] = []
    copies: dict[int, nn.Parameter] = {}
    try:
        with torch.inference_mode(False), torch.no_grad():
            for module in (module for block in blocks for module in block.modules()):
                for name, weight in module._parameters.items():
                    if weight is None or weight.dim() < 2:
                        continue
                    own.append((module, name, weight))
                    if id(weight) not in copies:
                        copies[id(weight)] = _permuted(weight, generator)
                    module._parameters[name] = copies[id(weight)]
        yield
    finally:
        for module, name, weight in reversed(own):
            module._parameters[name] = weight


def _permuted(weight: nn.Parameter, generator: torch.Generator) -> nn.Parameter:
    order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
    return nn.Parameter(weight.flatten()[order].view_as(weight), requires_grad=False)
