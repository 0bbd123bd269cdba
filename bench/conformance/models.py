"""What every model has to keep, checked on the model itself, on the CPU in fp32."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.conformance.check import check_line, require
from bench.conformance.small import check_strengths, grid_on, left_as_found
from bench.models.load import MODELS, load_model, model_digest
from methods.core.hooks import Recorder
from methods.core.objective import Objective
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.sites import length_in
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from methods.method import Setting

TEXT = "The capital of France is"
N_PROMPTS, N_POSITIONS = 3, 6


class Case:
    """A model as it is loaded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded = load_model(name, device="cpu")
        self.subject = SubjectModel(self.loaded.bridge)
        self.vocabulary = int(self.loaded.bridge.cfg.d_vocab)

    @property
    def prompts(self) -> Prompts:
        """Random prompts, behind the BOS where the model has one."""
        generator = torch.Generator().manual_seed(0)
        shape = (N_PROMPTS, length_in(self.subject, N_POSITIONS))
        tokens, corrupted = (
            torch.randint(1, self.vocabulary, shape, generator=generator) for _ in range(2)
        )
        if self.loaded.bos_id is not None:
            tokens[:, 0] = corrupted[:, 0] = self.loaded.bos_id
        answers, foils = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
        return Prompts(tokens, corrupted, answers, foils, self.loaded.bos_id is not None)

    def grid(self, sites: list[str]) -> PointGrid:
        """Every point of these sites but those at the BOS."""
        return grid_on(self.subject, sites, "all", self.prompts.n_positions, self.prompts.has_bos)


def check_entry(case: Case) -> None:
    """its line in `list` is readable, and its digest says the same twice"""
    if case.name in MODELS:
        check_line(MODELS[case.name].summary, "model")
    require(
        model_digest(case.name) == model_digest(case.name) == case.loaded.digest,
        "what is loaded has another digest than what is named",
    )


def check_tokenizer(case: Case) -> None:
    """its tokenizer gives texts back, and its ids are those of the model"""
    tokenizer = case.loaded.tokenizer
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    require(ids, "the tokenizer makes no tokens of a sentence")
    require(
        tokenizer.decode(ids).strip() == TEXT,
        f'"{TEXT}" comes back as "{tokenizer.decode(ids)}"',
    )
    require(
        max(ids) < case.vocabulary,
        f"the tokenizer gives the id {max(ids)}; the model has {case.vocabulary}",
    )
    bos = case.loaded.bos_id
    require(bos is None or 0 <= bos < case.vocabulary, f"the BOS {bos} is no token of the model")
    require(bos is None or bos not in ids, "the tokenizer adds the BOS itself: it would be twice")


def check_logits(case: Case) -> None:
    """its logits are numbers, and a prompt's own whatever stands beside it in the batch"""
    tokens = case.prompts.tokens
    together = case.subject.unsteered_logits(tokens)  # an error where they are no numbers
    require(bool((together.std(dim=-1) > 0).all()), "all logits of a prompt are the same")
    alone = torch.cat([case.subject.unsteered_logits(row[None]) for row in tokens])
    gap = float((together - alone).abs().max())
    require(gap < 1e-2, f"alone and in a batch, logits of one prompt differ by {gap:.2g}")


def check_stream(case: Case) -> None:
    """what layers add to the residual stream is what the hooks see"""
    subject, tokens = case.subject, case.prompts.tokens
    sites = [Site.ATTN_OUT, Site.MLP_OUT, Site.RESID_POST]
    layers = range(subject.n_layers)
    seen = Recorder([(site, layer) for site in sites for layer in layers])
    with torch.no_grad():
        subject.logits(tokens, seen)
    for layer in range(1, subject.n_layers):
        before, after = (seen.seen[Site.RESID_POST, at] for at in (layer - 1, layer))
        added = seen.seen[Site.ATTN_OUT, layer] + seen.seen[Site.MLP_OUT, layer]
        gap = float((before + added - after).abs().max() / after.abs().max())
        require(
            gap < 1e-3,
            f"in layer {layer}, resid_post is not the one before + attn_out + mlp_out: they differ "
            f"by {gap:.1%} of the largest value",
        )


def check_steering(case: Case) -> None:
    """at beta = 0 the logits are identical, at beta = 1 they are not, at every site"""
    subject, tokens = case.subject, case.prompts.tokens
    for site in sorted(subject.sites):
        grid = case.grid([site.value])
        scaling = StaticScaling(grid, torch.full(grid.shape, 0.5))
        check_strengths(subject, tokens, scaling, f"at {site}")


def check_scores(case: Case) -> None:
    """a method gives scores on it that are numbers, and leaves it as it was found"""
    grid = case.grid(["attn_out", "mlp_out"])
    with left_as_found(case.subject):
        found = GradScalar().fit(case.subject, case.prompts, grid, Setting(Objective(), 0))
    scores = found.scores[grid.included]
    require(bool(torch.isfinite(scores).all()), "gradients hold NaN or infinity")
    require(bool((scores != 0).any()), "every gradient is 0")


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_entry,
    check_tokenizer,
    check_logits,
    check_stream,
    check_steering,
    check_scores,
)
"""Every check; its docstring is what it makes sure of, in words."""
