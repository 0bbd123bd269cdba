"""Circuit faithfulness: how much of a task do the nodes do that a method scores highest?

A node is a head, an attention layer or an MLP at all positions (`methods.core.circuits`); its score
is the sum of its points' over positions. Of a circuit C of the k nodes of highest score

    f(C) = (LD(C) - LD(corrupted)) / (LD(clean) - LD(corrupted))

a ratio of means over the test prompts, not clipped: 1 for the whole model, 0 for the empty circuit.
CPR is the area under f over the share of nodes kept, CMD the area under |1 - f|, by trapezoids over
ten shares that are linear, so that half of each area lies above 0.5; beside them stand means over
log k. 'signed' takes the largest scores first, 'absolute' the largest |scores|: the benchmark's CPR
ranks by the first, its CMD by the second.

Where a number stands on what changes faithfulness (Miller et al. 2024): nodes, not edges; attention
outputs or heads, and MLPs; resampling by the counterfactual; all positions; noising; the circuit
and, as `f_without`, its complement.

Source: 'MIB: A Mechanistic Interpretability Benchmark' (Mueller et al. 2025) for CPR and CMD;
'Hypothesis Testing the Circuit Hypothesis in LLMs' (Shi et al. 2024) for sufficiency and partial
necessity; 'Transformer Circuit Faithfulness Metrics are not Robust' (Miller et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import binom
from torch import Tensor

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.sparsity import area
from bench.matrix.stages import Circuit
from bench.store.cells import Tensors
from bench.store.circuit_record import CircuitCurve, CircuitRecord, Order
from methods.core.circuits import CircuitRuns, node_scores
from methods.core.subject import SubjectModel

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the nodes; a circuit has int(share * nodes) of them."""
LEAST_GAP = 0.1
"""Logits between the clean and the corrupted LD below which f is undefined."""
QUANTILE = 0.9
"""Of random circuits, which a circuit has to be better than."""
ORDERS: tuple[Order, ...] = get_args(Order)


def measure_circuits(
    subject: SubjectModel,
    task: PreparedTask,
    scores: Float[Tensor, "place layer position"],
    setting: Circuit,
    seed: int,
) -> tuple[CircuitRecord, Tensors]:
    """Measures f on the test split for circuits of ten sizes, in both orders.

    Args:
        subject: the model.
        task: its grid has the nodes' sites.
        scores: of the points of the grid; NaN at those left out.
        setting: how nodes are scored, and tests against random circuits.
        seed: of random circuits; decides between nodes of equal score.

    Returns:
        The record, and per test prompt `circuit.ld` (prompt, order, with or without, share),
        `circuit.clean` and `circuit.corrupted`.

    Raises:
        UserInputError: for a grid whose sites make no circuits.
    """
    test = task.splits["test"]
    runs = CircuitRuns(subject, test.prompts, task.grid)
    sizes = setting.over_positions == "sum_of_sizes"
    of_nodes = node_scores(task.grid, scores, sizes=sizes)
    n_nodes = of_nodes.numel()
    tested = max(1, int(setting.share * n_nodes)) if setting.draws else 0
    ks = [int(share * n_nodes) for share in SHARES]
    wanted = sorted({*ks, tested})
    ld = _with_and_without(runs, of_nodes, wanted, seed)
    faithfulness = Faithfulness.of(runs.clean, runs.corrupted)
    f = faithfulness(ld)
    random = None
    if tested:
        random = faithfulness(_random_circuits(task, runs, tested, setting.draws, seed))
    at = [wanted.index(k) for k in ks]
    curves = [
        _curve(order, ks, f[place][:, at], f[place][:, wanted.index(tested)], random)
        if random is not None
        else _curve(order, ks, f[place][:, at])
        for place, order in enumerate(ORDERS)
    ]
    record = CircuitRecord(
        split=test.name,
        n_nodes=n_nodes,
        ld_clean=faithfulness.clean,
        ld_corrupted=faithfulness.corrupted,
        share=list(SHARES),
        k=ks,
        curves=curves,
        tested_k=tested,
        draws=setting.draws,
    )
    tensors = {"ld": ld[:, :, at].movedim(-1, 0), "clean": runs.clean, "corrupted": runs.corrupted}
    return record, {f"circuit.{name}": value.cpu().numpy() for name, value in tensors.items()}


def _with_and_without(
    runs: CircuitRuns, scores: Float[Tensor, "place layer"], ks: Sequence[int], seed: int
) -> Float[Tensor, "order with_or_without k prompt"]:
    """LD of the k highest nodes in both orders, and of all the others."""
    circuits = torch.stack([highest(scores, k, order, seed) for order in ORDERS for k in ks])
    circuits = circuits.view(len(ORDERS), len(ks), *runs.shape)
    both = torch.stack([circuits, ~circuits], dim=1)
    return _each_once(runs, both.flatten(0, 2)).view(*both.shape[:3], -1)


def highest(
    scores: Float[Tensor, "place layer"], k: int, order: Order, seed: int
) -> Bool[Tensor, "place layer"]:
    """True at the k nodes of highest score, or of highest |score|; equal ones fall by `seed`."""
    values = (scores.abs() if order == "absolute" else scores).flatten()
    mixed = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    kept = torch.zeros(len(values), dtype=torch.bool)
    kept[mixed[values[mixed].argsort(descending=True, stable=True)[:k]]] = True
    return kept.view(scores.shape)


@dataclass(frozen=True)
class Faithfulness:
    """f of mean logit differences, between those of the corrupted and the clean run."""

    clean: float
    corrupted: float

    @staticmethod
    def of(clean: Float[Tensor, " prompt"], corrupted: Float[Tensor, " prompt"]) -> Faithfulness:
        """Between the means of the two plain runs."""
        return Faithfulness(float(clean.double().mean()), float(corrupted.double().mean()))

    def __call__(self, ld: Float[Tensor, "*circuit prompt"]) -> np.ndarray:
        """(circuit): NaN where the two runs are too near each other."""
        gap = self.clean - self.corrupted
        means = ld.double().mean(dim=-1).cpu().numpy()
        return (means - self.corrupted) / gap if abs(gap) >= LEAST_GAP else means * np.nan


def linear_area(values: Sequence[float]) -> float:
    """The area under `values` at SHARES over the share, by trapezoids."""
    return float(np.trapezoid(values, SHARES))


def log_area(ks: Sequence[int], values: Sequence[float]) -> float:
    """The mean of `values` over log k, of the sizes that are circuits; a size counts once."""
    by_k = {k: value for k, value in zip(ks, values, strict=True) if k}
    return area(list(by_k), list(by_k.values()))


def _curve(
    order: Order,
    ks: list[int],
    f: np.ndarray,
    tested: np.ndarray | None = None,
    random: np.ndarray | None = None,
) -> CircuitCurve:
    """Areas under f (with or without, share), and tests of one circuit against random ones."""
    kept, without = f.tolist()
    away = [abs(1 - value) for value in kept]
    tests: dict[str, float | int] = {}
    if tested is not None and random is not None and np.isfinite(random).all():
        better = np.abs(1 - tested[:, None]) < np.abs(1 - random)
        counts = {"sufficient": int(better[0].sum()), "necessary": int((~better[1]).sum())}
        for name, count in counts.items():
            p = float(binom.sf(count - 1, random.shape[1], QUANTILE))
            tests |= {name: count, f"p_{name}": p}
    return CircuitCurve(
        order=order,
        f=kept,
        f_without=without,
        CPR=linear_area(kept),
        CMD=linear_area(away),
        CPR_log=log_area(ks, kept),
        CMD_log=log_area(ks, away),
        **tests,
    )


def _each_once(
    runs: CircuitRuns, circuits: Bool[Tensor, "circuit place layer"]
) -> Float[Tensor, "circuit prompt"]:
    """LD of every prompt in every circuit; those that stand there twice are run once."""
    distinct, place = torch.unique(circuits.flatten(1), dim=0, return_inverse=True)
    return runs.logit_differences(distinct.view(-1, *runs.shape))[place.to(runs.clean.device)]


def _random_circuits(
    task: PreparedTask, runs: CircuitRuns, k: int, draws: int, seed: int
) -> Float[Tensor, "kind draw prompt"]:
    """LD in random circuits of k nodes and in all nodes but these, shared by the task's cells.

    A cell that finds them counts their passes as if it had made them, so that what it says of its
    cost does not depend on the cells before it.
    """
    key = (k, draws, seed)
    passes = runs.subject.passes
    if key in task.random_circuits:
        passes.forward += task.random_circuits[key].numel()
        return task.random_circuits[key]
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand((draws, runs.shape[0] * runs.shape[1]), generator=generator).argsort(dim=1)
    circuits = (order < k).view(draws, *runs.shape)
    both = torch.cat([circuits, ~circuits])
    found = runs.logit_differences(both).view(2, draws, -1)
    task.random_circuits[key] = found
    return found
