"""Loads a tiny random model of an architecture and compares every number with plain hooks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from bench.models.bridge import quiet_transformers
from bench.models.load import load_model
from methods.activ_patch import patch_scores
from methods.core.corruption import contrasts
from methods.core.final_norm import UnknownFinalNormError
from methods.core.objective import Objective
from methods.core.points import HEAD_SITES, PointGrid, Site, make_grid
from methods.core.prompts import Prompts
from methods.core.resumed import CannotResumeError, ResumedRun
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.dla import DLA
from methods.grad_scalar import GradScalar
from methods.method import Setting
from tasks.errors import UserInputError
from tests.architectures.plain import PlainModel, Spot
from tests.architectures.tiny import (
    causal_model_types,
    every_variety,
    save_architecture,
    tiny_config,
)

N_POSITIONS = 9
POSITIONS = (3, N_POSITIONS - 1)
ADDED = (Site.ATTN_OUT, Site.MLP_OUT, Site.RESID_POST)


@dataclass
class Found:
    """What came of an architecture.

    Attributes:
        architecture: class of the model.
        refused: why it is not loaded; "" if it is.
        sites: those that it offers.
        missing: the reasons for the others.
        way: how patches are run, `fast` or `slow`.
        dla: `yes`, or why there is none.
        wrong: numbers that are not those of the plain model.
    """

    architecture: str
    refused: str = ""
    sites: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    way: str = ""
    dla: str = ""
    wrong: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """`right` has attn_out, mlp_out, resid_post and DLA, all as in the plain model."""
        if self.wrong:
            return "WRONG"
        if self.refused or not self.sites:
            return "refused"
        whole = self.dla == "yes" and {site.value for site in ADDED} <= {*self.sites}
        return "right" if whole else "in part"


def survey(folder: Path, config: Any, architecture: str = "") -> Found:
    """Saves a random model of a configuration in a folder, loads it, and compares."""
    save_architecture(folder, config)
    found = Found(architecture or config.architectures[0])
    try:
        bridge = load_model(str(folder), device="cpu", packed=False).bridge
    except UserInputError as error:
        found.refused = str(error).replace(f'Model "{folder}": ', "")
        return found
    with quiet_transformers():
        auto: Any = AutoModelForCausalLM
        model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    _Comparison(SubjectModel(bridge), PlainModel(model, int(bridge.cfg.n_layers)), found).run()
    return found


class _Comparison:
    """The suite's numbers and those of the plain model, on two prompts."""

    def __init__(self, subject: SubjectModel, plain: PlainModel, found: Found) -> None:
        self.subject, self.plain, self.found = subject, plain, found
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(2, 60, (2, N_POSITIONS), generator=generator)
        answers, foils = torch.tensor([5, 9]), torch.tensor([33, 40])
        self.prompts = Prompts(tokens, (tokens + 1) % 60 + 2, answers, foils, has_bos=False)
        self.setting = Setting(Objective(), 0)

    def run(self) -> None:
        """Fills what was found."""
        subject, found = self.subject, self.found
        found.sites = [site.value for site in Site if site in subject.sites]
        found.missing = {
            site.value: why
            for site, why in subject._found.missing.items()
            if site not in HEAD_SITES or site is Site.Z
        }
        unpatched = self._plain_ld()
        self.size = float(unpatched.abs().max())
        self._compare("logits", self._unpatched(), unpatched, 2e-5)
        sites = [site for site in found.sites if site != Site.O]
        if not sites:
            found.dla = "none of its sites"
            return
        self.grid = self._grid(sites)
        self.seen = [self.plain.seen(of) for of in (self.prompts.tokens, self.prompts.corrupted)]
        self._way()
        self._zero_strength()
        self._points()
        self._dla()

    def _grid(self, sites: list[str]) -> PointGrid:
        return make_grid(
            sites, POSITIONS, n_layers=self.subject.n_layers, n_positions=N_POSITIONS,
            has_bos=False, keep_final_residual=True, heads=self.subject.heads,
        )  # fmt: skip

    @torch.no_grad()
    def _unpatched(self) -> Tensor:
        return self.prompts.logit_difference(self.subject.logits(self.prompts.tokens))

    @torch.no_grad()
    def _plain_ld(self, changes: Any = None) -> Tensor:
        return self.prompts.logit_difference(self.plain.logits(self.prompts.tokens, changes))

    def _compare(
        self, what: str, ours: Tensor, theirs: Tensor, tolerance: float, size: float = 1e-2
    ) -> None:
        size = max(float(theirs.abs().max()), size)
        gap = float((ours - theirs).abs().max()) / size
        if not gap <= tolerance:
            self.found.wrong.append(f"{what}: off by {gap:.2g} of the largest")

    def _way(self) -> None:
        self.contrast = contrasts(
            self.subject, self.prompts, self.grid, "counterfactual", "noising", 0
        )[0]
        try:
            ResumedRun(self.subject, self.grid, self.contrast)
            self.found.way = "fast"
        except CannotResumeError as error:
            self.found.way = f"slow ({error})"

    @torch.no_grad()
    def _zero_strength(self) -> None:
        scaling = StaticScaling(self.grid, torch.full(self.grid.shape, 0.5))
        zero = self.subject.logits(self.prompts.tokens, scaling.at(torch.zeros(2)))
        if not torch.equal(zero, self.subject.logits(self.prompts.tokens)):
            self.found.wrong.append("beta = 0 changes the logits")

    def _points(self) -> None:
        """Patches and derivatives of every site, layer by layer."""
        patches = patch_scores(self.subject, self.grid, self.contrast)
        scalars = GradScalar().fit(self.subject, self.prompts, self.grid, self.setting)
        ours = self.subject.activations(self.prompts.tokens, self.grid.site_layers)
        assert scalars.prompt_scores is not None
        for site, layer in self.grid.site_layers:
            located = Site.ATTN_OUT if site is Site.RESID_MID else site
            spot = self.plain.spot(self.seen[0], layer, ours[located, layer])
            name = f"{site}, layer {layer}"
            if spot is None:
                self.found.wrong.append(f"{name}: in no module of the plain model")
                continue
            rows = self.grid.rows(site)
            theirs = self._plain_scores(site, layer, spot)
            for what, found, expected, tolerance in (
                ("patch", patches[:, rows, layer], theirs[0], 3e-5),
                ("derivative", scalars.prompt_scores[:, rows, layer], theirs[1], 1e-3),
            ):
                # A patch's score is a difference of two logit differences, which are rounded.
                size = self.size if what == "patch" else 0.01 * self.size
                self._compare(f"{what} at {name}", found, expected, tolerance, size)

    def _plain_scores(self, site: Site, layer: int, spot: Spot) -> tuple[Tensor, Tensor]:
        """Patches and derivatives (prompt, head, position) at a spot of the plain model."""
        h, donor = (
            of[spot.module, spot.given][:, :, spot.columns] * spot.factor for of in self.seen
        )
        if site is Site.RESID_MID:
            h, donor = (
                of[self.plain.layers[layer], False] + added
                for of, added in zip(self.seen, (h, donor), strict=True)
            )
        offset = torch.zeros_like(h, requires_grad=True)
        with torch.enable_grad():
            logits = self.plain.logits(self.prompts.tokens, {spot: lambda x: x + offset})
            gradient = torch.autograd.grad(
                self.prompts.logit_difference(logits).sum(), offset,
                allow_unused=True, materialize_grads=True,
            )[0]  # fmt: skip
        n_heads = len(range(*self.grid.rows(site).indices(len(self.grid.places))))
        products = (h * gradient).unflatten(2, (n_heads, -1)).sum(dim=-1).transpose(1, 2)
        patched = self._plain_patches(spot, donor - h, n_heads)
        return patched, products[:, :, list(POSITIONS)].detach()

    @torch.no_grad()
    def _plain_patches(self, spot: Spot, change: Tensor, n_heads: int) -> Tensor:
        """What each head's change at each position takes from the logit difference.

        All of them are rows of one forward.
        """
        n_rows, _, width = change.shape
        changes = change.new_zeros(n_heads, len(POSITIONS), *change.shape)
        for head in range(n_heads):
            columns = slice(head * width // n_heads, (head + 1) * width // n_heads)
            for index, at in enumerate(POSITIONS):
                changes[head, index, :, at, columns] = change[:, at, columns]
        rows = changes.flatten(0, 2)
        every = self.prompts.take(list(range(n_rows)) * (len(rows) // n_rows))
        ld = every.logit_difference(self.plain.logits(every.tokens, {spot: lambda x: x + rows}))
        return self._plain_ld()[:, None, None] - ld.view(*changes.shape[:3]).permute(2, 0, 1)

    def _dla(self) -> None:
        """Against the plain model's derivative at the last stream, its scale held.

        The frozen-scale map D of x follows from the derivative g of LD in the stream h, as
        g . x = D(x) - (h . x / |h|^2) D(h), where D(h) = LD(h) - LD(0).
        """
        sites = [site.value for site in ADDED if site in self.subject.sites]
        if not sites:
            self.found.dla = "no site that is a part of the residual stream"
            return
        try:
            found = DLA(form="strict").fit(
                self.subject, self.prompts, self._grid(sites), self.setting
            )
        except UnknownFinalNormError as error:
            self.found.dla = str(error)
            return
        self.found.dla = "yes"
        assert found.prompt_scores is not None
        ours = self.subject.activations(self.prompts.tokens, self._grid(sites).site_layers)
        for row, site in enumerate(sites):
            for layer in range(self.subject.n_layers):
                x = ours[Site(site), layer][:, -1]
                self._compare(
                    f"DLA at {site}, layer {layer}",
                    found.prompt_scores[:, row, layer, -1],
                    self._plain_dla(x),
                    2e-3,
                )

    def _plain_dla(self, x: Tensor) -> Tensor:
        last = self.plain.layers[-1]
        h = self.seen[0][last, True][:, -1]
        spot = Spot(last, True, torch.arange(h.shape[1]))

        def ld(stream: Tensor) -> Tensor:
            def put(flat: Tensor) -> Tensor:
                return torch.cat([flat[:, :-1], stream[:, None].to(flat.dtype)], dim=1)

            logits = self.plain.logits(self.prompts.tokens, {spot: put})
            text = self.plain.model.config.get_text_config()
            cap = getattr(text, "final_logit_softcapping", None)
            cap = cap or getattr(text, "logits_soft_cap", None)  # RecurrentGemma
            return self.prompts.logit_difference(cap * torch.atanh(logits / cap) if cap else logits)

        with torch.enable_grad():
            stream = h.clone().requires_grad_(True)
            gradient = torch.autograd.grad(ld(stream).sum(), stream)[0]
        with torch.no_grad():
            whole = ld(h) - ld(torch.zeros_like(h))
            centred = bool(((ld(h + 1) - ld(h)).abs() < 1e-3 * ld(h).abs().max()).all())
        if centred:
            x, h = (of - of.mean(dim=-1, keepdim=True) for of in (x, h))
        share = (h * x).sum(dim=-1) / h.square().sum(dim=-1)
        return (gradient * x).sum(dim=-1) + share * whole


def of_all(names: list[str]) -> Iterator[tuple[str, Found]]:
    """What came of some of `every_variety`; whatever is raised counts as wrong."""
    for name in names:
        model_type, settings = every_variety()[name]
        with tempfile.TemporaryDirectory() as folder:
            architecture = causal_model_types()[model_type]
            try:
                config = tiny_config(model_type, **settings)
                found = survey(Path(folder) / "tiny", config, architecture)
            except Exception as error:
                line = (str(error).splitlines() or [""])[0]
                found = Found(architecture, wrong=[f"raised {type(error).__name__}: {line}"])
        yield name, found
