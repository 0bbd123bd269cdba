"""Specificity: does a fitted intervention leave alone what it was not made for?

The intervention runs at the strength at which methods are compared, with both signs, on test
prompts of other tasks and on a neutral text. How far the logit difference moves there, and how many
nats a token the next word's distribution does, stand beside the same on its own task.

What belongs to positions is aligned at the answer position (`methods.core.aligned`): the last one
acts at the last token of another task's prompt, the one before it at the one before. Points that a
shorter prompt has no token for are left out, and `moved` says the share of points that is left.
What fits any length acts at all positions of the other task's own grid. The neutral text is cut
into windows as long as the task's prompts, behind the BOS, so that every point has its place; its
logit differences are those of the task's own answers and foils.

Source: 'RAVEL: Evaluating Interpretability Methods on Disentangling Language Model Representations'
(Huang et al. 2024), for asking that an intervention leaves the rest alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from bench.evaluation.neutral_text import NEUTRAL_TEXT
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.split import Split
from bench.matrix.stages import Specificity
from bench.models.load import LoadedModel
from bench.store.cells import Tensors
from bench.store.sanity_record import SpecificityRecord, SpecificityRow
from methods.core.aligned import Aligned
from methods.core.hooks import Edit
from methods.core.intervention import Intervention
from methods.core.objective import kl_divergence
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel

NEUTRAL = "neutral text"
Kind = Literal["own", "task", "neutral"]


def measure_specificity(
    subject: SubjectModel,
    model: LoadedModel,
    tasks: Mapping[str, PreparedTask],
    intervention: Intervention,
    beta: float,
    setting: Specificity,
) -> tuple[SpecificityRecord, Tensors]:
    """Takes an intervention to other tasks and to a neutral text.

    Args:
        subject: the model.
        model: the same as loaded, for its tokenizer.
        tasks: by label, the intervention's own first.
        intervention: what is done to activations.
        beta: how strongly.
        setting: prompts of each task, and windows of the text.

    Returns:
        The record, and per prompt `specificity.<where>.ld` (prompt, [+beta, -beta, 0]) and
        `specificity.<where>.kl` (prompt, [+beta, -beta]).
    """
    rows: list[SpecificityRow] = []
    tensors: Tensors = {}
    (own, first), *others = tasks.items()
    few = {label: _few(task, setting.prompts) for label, task in tasks.items()}
    windows = neutral_windows(model, few[own].prompts, setting.windows)
    asked: list[tuple[str, Kind, Split, PointGrid]] = [
        (own, "own", few[own], first.grid),
        *((label, "task", few[label], task.grid) for label, task in others),
        (NEUTRAL, "neutral", Split.of(NEUTRAL, windows, subject), first.grid),
    ]
    for where, kind, split, grid in asked:
        ld, kl, moved = _run(subject, split, grid, intervention, beta)
        change = (ld[:, :2] - ld[:, 2:]).abs()
        rows.append(
            SpecificityRow(
                where=where,
                kind=kind,
                n_prompts=len(ld),
                moved=moved,
                ld_change=float(change.double().mean()),
                kl=float(kl.double().mean()),
            )
        )
        tensors |= {f"specificity.{where}.ld": ld.numpy(), f"specificity.{where}.kl": kl.numpy()}
    return SpecificityRecord(beta=beta, rows=rows), tensors


def _few(task: PreparedTask, number: int) -> Split:
    test = task.splits["test"]
    return test.take(range(min(number, len(test.prompts))))


def neutral_windows(model: LoadedModel, prompts: Prompts, number: int) -> Prompts:
    """Windows of the neutral text, evenly spaced, as long as some prompts and with their answers.

    A text that is too short begins again. Nothing is corrupted.
    """
    ids = list(model.tokenizer(NEUTRAL_TEXT, add_special_tokens=False)["input_ids"])
    bos = [model.bos_id] if prompts.has_bos and model.bos_id is not None else []
    length = prompts.n_positions - len(bos)
    starts = [len(ids) * at // number for at in range(number)]
    windows = [[*bos, *(ids[(start + at) % len(ids)] for at in range(length))] for start in starts]
    tokens = torch.tensor(windows, device=prompts.tokens.device)
    asked = torch.arange(number, device=tokens.device) % len(prompts)
    return Prompts(tokens, tokens, prompts.answers[asked], prompts.foils[asked], prompts.has_bos)


@torch.no_grad()
def _run(
    subject: SubjectModel, split: Split, grid: PointGrid, intervention: Intervention, beta: float
) -> tuple[Tensor, Tensor, float]:
    """LD (prompt, [+, -, 0]), divergence (prompt, [+, -]), and the share of points that act."""
    prompts, device = split.prompts, split.reference.device
    prompt = torch.arange(len(prompts), device=device).repeat(2)
    signs = torch.tensor([1.0, -1.0], device=device).repeat_interleave(len(prompts))
    ld, kl, moved = [], [], []
    for rows in subject.chunks(len(prompt)):
        of = prompts.take(prompt[rows])
        edit, share = placed(intervention, grid, of, beta * signs[rows])
        logits = subject.logits(of.tokens, edit, mask=of.mask)
        ld.append(of.logit_difference(logits))
        kl.append(kl_divergence(logits, split.reference[prompt[rows]]))
        moved.append(share)
    steered, divergence = (torch.cat(one).view(2, -1).T.cpu() for one in (ld, kl))
    unsteered = split.unsteered.ld[:, :1]
    return torch.cat([steered, unsteered], 1), divergence, float(torch.cat(moved).mean())


def placed(
    intervention: Intervention, grid: PointGrid, prompts: Prompts, beta: Tensor
) -> tuple[Edit, Tensor]:
    """What is done to prompts of some length, and the share of points that act in each.

    Args:
        intervention: on the grid of its own task.
        grid: of the task that the prompts belong to.
        prompts: of that task, or as long as its own.
        beta: the strength of each.
    """
    own = intervention.grid
    everywhere = torch.ones(len(prompts))
    if (grid.n_positions, grid.positions) == (own.n_positions, own.positions):
        return intervention.at(beta, 0, prompts.first), everywhere
    moved = intervention.on(grid)
    if moved is not None:
        return moved.to(beta.device).at(beta, 0, prompts.first), everywhere
    first = prompts.first
    if first is None:
        first = torch.full((len(prompts),), int(prompts.has_bos), device=beta.device)
    edit = Aligned(intervention, beta, first)
    return edit, edit.moved(intervention, prompts.n_positions)
