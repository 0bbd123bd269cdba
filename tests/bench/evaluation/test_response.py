"""What is stored of a response, against plain NumPy on the model's own logits."""

import numpy as np
import pytest
import torch

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.response import TOP_TOKENS, Response
from bench.evaluation.split import respond
from methods.core.objective import Objective
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel


def scaling(task: PreparedTask, size: float = 0.5) -> StaticScaling:
    generator = torch.Generator().manual_seed(3)
    return StaticScaling(task.grid, size * torch.randn(task.grid.shape, generator=generator))


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def test_columns_equal_plain_numpy(subject: SubjectModel, task: PreparedTask) -> None:
    split, steering = task.splits["test"], scaling(task)
    beta = torch.tensor([0.0, 1.0, -0.7])
    response = respond(subject, split, steering, beta)
    with torch.no_grad():
        original = subject.bridge(split.prompts.tokens)[:, -1].double().numpy()
    for column, strength in enumerate(beta):
        with torch.no_grad():
            bound = steering.at(strength.repeat(len(split.prompts)))
            logits = subject.logits(split.prompts.tokens, bound).double().numpy()
        p, q = softmax(logits), softmax(original)
        for row in range(len(split.prompts)):
            answer, foil = int(split.prompts.answers[row]), int(split.prompts.foils[row])
            kl = sum(a * (np.log(a) - np.log(b)) for a, b in zip(p[row], q[row], strict=True))
            expected = {
                "ld": logits[row, answer] - logits[row, foil],
                "logit_answer": logits[row, answer],
                "logit_foil": logits[row, foil],
                "p_answer": p[row, answer],
                "p_foil": p[row, foil],
                "kl": kl,
            }
            for name, value in expected.items():
                found = float(getattr(response, name)[row, column])
                np.testing.assert_allclose(found, value, atol=2e-5, err_msg=name)
            order = np.argsort(-p[row])[:TOP_TOKENS]
            np.testing.assert_allclose(response.top_p[row, column], p[row, order], atol=1e-5)
            assert set(response.top_ids[row, column].tolist()) == set(order.tolist())
    assert torch.equal(response.ld[:, 0], split.unsteered.ld[:, 0])
    assert torch.equal(response.mass[:, 0], split.unsteered.mass[:, 0])
    assert split.unsteered_e_0 == pytest.approx(-float(response.ld[:, 0].abs().mean()), abs=1e-5)


def test_beta_zero_is_the_unsteered_response_and_is_not_run(
    subject: SubjectModel, task: PreparedTask
) -> None:
    split, steering = task.splits["test"], scaling(task)
    before = subject.passes.forward
    response = respond(subject, split, steering, torch.tensor([1.0, 0.0]))
    assert subject.passes.forward - before == len(split.prompts)
    assert response.beta.tolist() == [1, 0]
    bound = steering.at(torch.zeros(len(split.prompts)))
    with torch.no_grad():
        logits = subject.logits(split.prompts.tokens, bound)
    torch.testing.assert_close(response.ld[:, 1], split.prompts.logit_difference(logits))
    assert response.kl[:, 1].abs().max() < 1e-6


def test_columns_and_rows_are_chosen_by_strength_and_prompt(
    subject: SubjectModel, task: PreparedTask
) -> None:
    split, steering = task.splits["test"], scaling(task)
    beta = torch.tensor([1.0, -1.0, 0.5])
    response = respond(subject, split, steering, beta)
    chosen = response.select(torch.tensor([0.5, 1.0]))
    assert torch.equal(chosen.kl, response.kl[:, [2, 0]])
    assert torch.equal(chosen.top_ids, response.top_ids[:, [2, 0]])
    alone = respond(subject, split.take([2]), steering, beta)
    torch.testing.assert_close(alone.ld[0], response.ld[2], atol=1e-5, rtol=1e-5)


def test_rows_of_a_forward_do_not_matter(subject: SubjectModel, task: PreparedTask) -> None:
    split, steering = task.splits["test"], scaling(task)
    beta = torch.tensor([0.0, 1.0, -1.0, 2.0])
    whole = respond(subject, split, steering, beta)
    small = SubjectModel(subject.bridge, rows_per_forward=5)
    parts = respond(small, split, steering, beta)
    torch.testing.assert_close(whole.ld, parts.ld, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.kl, parts.kl, atol=1e-5, rtol=1e-5)


def test_the_objective_at_minus_beta_swaps_the_roles_and_no_number_is_the_worst() -> None:
    beta = torch.tensor([2.0, -2.0, 0.5, -0.5, 1.0, -1.0])
    ld = torch.tensor([[3.0, -1.0, 0.2, 0.4, float("nan"), 1.0]])
    zeros, top = torch.zeros_like(ld), torch.zeros(1, 6, 1)
    response = Response(beta, ld, zeros, zeros, zeros, torch.full_like(ld, 0.25), top.long(), top)
    values = response.behaviour(Objective(margin=1.0, lambda_f=2.0))
    # E_1 by hand: hinges max(0, 1 - LD+) + max(0, 1 + LD-); F = -(0.25 + 0.25), weighted by 2.
    expected = [-(0 + 0) - 1, -(2 + 4) - 1, -(0.8 + 1.4) - 1, -(0.6 + 1.2) - 1]
    np.testing.assert_allclose(values, [*expected, -np.inf, -np.inf], atol=1e-6)
