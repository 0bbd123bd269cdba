"""Ensemble by ranks counted by hand, KeptSigns on scores whose signs are known."""

from typing import Any

import pytest
import torch

from methods import METHODS
from methods.attr_patch import AttrPatch
from methods.ensemble import Ensemble, KeptSigns, normalised_ranks
from methods.method import Attribution
from tasks.errors import UserInputError
from tests.methods.small import apart, grid_of, prompts, setting, subject


def test_scores_are_the_mean_of_signed_ranks() -> None:
    model = subject("llama")
    grid = grid_of(model, ["z", "mlp_out", "resid_post"])
    names = ("attr_patch", "dla")
    found = Ensemble(names).fit(model, prompts(), grid, setting()).scores
    points = grid.included.nonzero().tolist()
    expected = torch.zeros(grid.shape)
    for name in names:
        scores = METHODS[name].load()().fit(model, prompts(), grid, setting()).scores
        sizes = [float(scores[tuple(at)].abs()) for at in points]
        for at, size in zip(points, sizes, strict=True):
            below = sum(other < size for other in sizes)
            rank = below + (1 + sum(other == size for other in sizes)) / 2
            expected[tuple(at)] += scores[tuple(at)].sign() * rank / len(points) / 2
    assert apart(found, expected) < 1e-6
    cubed = normalised_ranks(scores**3, grid)
    assert torch.equal(cubed, normalised_ranks(scores, grid)), "no scale matters"


def test_with_a_member_without_sign_there_is_none() -> None:
    model = subject("gpt2")
    mixed = Ensemble(("attr_patch", "diff_means"))
    grid = grid_of(model, ["mlp_out"])
    assert Ensemble().signed
    assert not mixed.signed
    assert (mixed.fit(model, prompts(), grid, setting()).scores >= 0).all()


def test_scores_whose_sign_depends_on_the_prompts_are_0(monkeypatch: pytest.MonkeyPatch) -> None:
    model = subject("gpt2")
    grid = grid_of(model, ["mlp_out"], "last")
    # By layer: all of one sign; one prompt in eight of the other; one large one among small ones.
    by_prompt = torch.ones(8, 3)
    by_prompt[0, 1] = -1
    by_prompt[:, 2] = -0.1
    by_prompt[0, 2] = 1.5
    scores = by_prompt[:, None, :, None]
    found = Attribution(scores.mean(dim=0), prompt_scores=scores)
    monkeypatch.setattr(AttrPatch, "fit", lambda *_: found)
    kept = KeptSigns(draws=4000).fit(model, prompts(8), grid, setting())
    assert (kept.scores.flatten() != 0).tolist() == [True, True, False]
    assert torch.equal(kept.scores[0, :2], found.scores[0, :2])
    # The mean of the third has its sign if the large one is drawn at all.
    agreeing = kept.extras["agreeing"].flatten()
    assert float(agreeing[2]) == pytest.approx(1 - (7 / 8) ** 8, abs=0.03)
    assert float(agreeing[0]) == 1


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (Ensemble, {"members": ("attr_patch",)}, "two methods"),
        (Ensemble, {"members": ("attr_patch", "random")}, "control"),
        (Ensemble, {"members": ("attr_patch", "atr_patch")}, 'no method "atr_patch"'),
        (KeptSigns, {"of": "diff_means"}, "no sign"),
        (KeptSigns, {"of": "kept_signs"}, "ensemble"),
    ],
)
def test_members_that_make_no_sense_are_refused(kind: Any, settings: Any, words: str) -> None:
    with pytest.raises(UserInputError, match=words):
        kind(**settings)


def test_what_a_member_cannot_do_is_said() -> None:
    model = subject("gpt2")
    grid = grid_of(model, ["v"])
    with pytest.raises(UserInputError, match='"dla" cannot score v'):
        Ensemble(("attr_patch", "dla")).fit(model, prompts(), grid, setting())
    with pytest.raises(UserInputError, match="no scores by prompt"):
        KeptSigns("activ_scalar").fit(model, prompts(), grid, setting())
