"""Captum: attributions of the library Captum, of the model as a function of its points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.corruption import Corruption, Direction, check_direction, contrasts
from methods.core.groups import GroupFunction, Grouping, groups_of
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveInt
from methods.method import Attribution, Method, Setting
from tasks.errors import UserInputError

AFFORDABLE = 64
"""Groups up to which running the model group by group is no accident."""
SAMPLES = {
    "shapley_sampling": 25,
    "kernel_shap": 256,
    "integrated_gradients": 32,
    "gradient_shap": 20,
    "feature_ablation": 1,
}
BY_GRADIENT = ("integrated_gradients", "gradient_shap")


@dataclass(frozen=True)
class Captum(Method):
    """The score of a point is its group's share of what the group adds to LD, by Captum.

    The model is a function G(gamma) of one number a group: LD of the run with every activation of
    the group at h' + gamma (h - h'), h as it arrives. `patches`: h' comes from the other run, so
    that gamma goes from the patched run to the unpatched one. `scalars`: h' is zero, so that gamma
    - 1 is the activation scalar of Eq. 5, and it goes from -1 to 0. The algorithm divides G(1) -
    G(0) among the groups, and a group's points share its part equally; all scores but those of
    feature ablation add up to that change (integrated gradients and gradient SHAP in the limit of
    many samples). Feature ablation of single points is ActivPatch.

    Source: 'Captum: A unified and generic model interpretability library for PyTorch' (Kokhlikyan
    et al. 2020). `shapley_sampling`: 'Polynomial calculation of the Shapley value based on
    sampling' (Castro, Gomez and Tejada 2009). `kernel_shap`, `gradient_shap`: 'A Unified Approach
    to Interpreting Model Predictions' (Lundberg and Lee 2017). `integrated_gradients`: 'Axiomatic
    Attribution for Deep Networks' (Sundararajan, Taly and Yan 2017).

    Attributes:
        function: what gamma = 0 is.
        algorithm: how the change is divided.
        group: what moves together: single points, a site in one layer, or a site at one position.
        samples: orders of the groups (Shapley), random sets of groups (KernelSHAP), steps
            (integrated gradients) or random places on the way (gradient SHAP); None for 25, 256, 32
            and 20. Feature ablation has none.
        force: run more than 64 groups one by one.
        corruption: of `patches`: where h' comes from.
        direction: of `patches`: which run is patched.
    """

    function: Literal["scalars", "patches"] = "patches"
    algorithm: Literal[
        "shapley_sampling",
        "kernel_shap",
        "integrated_gradients",
        "gradient_shap",
        "feature_ablation",
    ] = "shapley_sampling"
    group: Grouping = "layer"
    samples: PositiveInt | None = None
    force: bool = False
    corruption: Corruption = "counterfactual"
    direction: Direction = "noising"

    def __post_init__(self) -> None:
        check_direction(self.corruption, self.direction)
        if self.function == "scalars" and (self.corruption, self.direction) != (
            "counterfactual",
            "noising",
        ):
            raise UserInputError(
                'corruption, direction: the function "scalars" is one of the clean run alone; '
                'these are settings of the function "patches".'
            )
        if self.algorithm == "feature_ablation" and self.samples not in (None, 1):
            raise UserInputError("samples: feature ablation takes every group away once.")

    @property
    def n_samples(self) -> int:
        """What `samples` stands for."""
        return self.samples or SAMPLES[self.algorithm]

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """A sample each by gradient; else half a forward with backward for every forward."""
        if self.algorithm in BY_GRADIENT:
            return self.n_samples
        groups = n_layers * n_sites if self.group == "layer" else AFFORDABLE
        return 1 + self._forwards(groups) // 2

    @torch.inference_mode(False)  # activations made within inference_mode could not be derived by
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Runs the algorithm on every prompt: on one after the other where it draws at random.

        Raises:
            UserInputError: if Captum is not installed, for more than 64 groups where each has runs
                of its own, and for fewer random sets than twice the groups.
        """
        groups = groups_of(grid, self.group)
        self._check(int(groups.max()) + 1)
        corruption = "zero" if self.function == "scalars" else self.corruption
        found = contrasts(subject, prompts, grid, corruption, self.direction, setting.seed)
        sizes = groups[grid.included].bincount().to(subject.device)
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        for contrast in found:
            function = GroupFunction(subject, grid, contrast, groups)
            everyone = torch.arange(len(prompts), device=subject.device)
            at_once = len(prompts) if self.algorithm == "integrated_gradients" else 1
            for rows in torch.split(everyone, at_once):
                with random_state(setting.seed, subject.device):
                    parts = self._attribute(function, rows, len(sizes))
                share = contrast.sign / len(found) * parts.float() / sizes
                scores[rows[:, None], grid.included] += share[:, groups[grid.included]]
        return Attribution(scores.mean(dim=0), prompt_scores=scores)

    def _check(self, n_groups: int) -> None:
        """Whether so many groups can be attributed to."""
        if self.algorithm not in BY_GRADIENT and n_groups > AFFORDABLE and not self.force:
            raise UserInputError(
                f"group: {self.algorithm} of {n_groups} groups takes "
                f"{self._forwards(n_groups)} forwards a prompt; more than {AFFORDABLE} groups are "
                'run with "force: true" alone. Groups that hold more points, fewer positions or an '
                "algorithm by gradient take less."
            )
        if self.algorithm == "kernel_shap" and self.n_samples < 2 * n_groups:
            raise UserInputError(
                f"samples: KernelSHAP fits {n_groups} numbers to {self.n_samples} random sets; at "
                f"least {2 * n_groups} are needed."
            )

    def _forwards(self, n_groups: int) -> int:
        by_sets = self.algorithm == "kernel_shap"
        return self.n_samples if by_sets else self.n_samples * n_groups + 1

    def _attribute(
        self, function: GroupFunction, rows: Int[Tensor, " prompt"], n_groups: int
    ) -> Float[Tensor, "prompt group"]:
        """The part of G(1) - G(0) that each group has on each of these prompts."""
        attr = _captum()
        device = function.subject.device
        ones = torch.ones(len(rows), n_groups, device=device)
        ends = {"inputs": ones, "baselines": torch.zeros_like(ones)}
        many = {"perturbations_per_eval": function.subject.rows_per_forward}
        kind, settings = {
            "shapley_sampling": (attr.ShapleyValueSampling, {"n_samples": self.n_samples, **many}),
            "kernel_shap": (attr.KernelShap, {"n_samples": self.n_samples, **many}),
            "integrated_gradients": (attr.IntegratedGradients, {"n_steps": self.n_samples}),
            "gradient_shap": (attr.GradientShap, {"n_samples": self.n_samples}),
            "feature_ablation": (attr.FeatureAblation, many),
        }[self.algorithm]

        def of_rows(gammas: Float[Tensor, "row group"]) -> Float[Tensor, " row"]:
            """Captum stacks what it makes of all prompts, step after step."""
            return function(gammas, rows.repeat(len(gammas) // len(rows)))

        with torch.enable_grad():
            found: Tensor = kind(of_rows).attribute(**ends, **settings)
        return found.detach()


def _captum() -> Any:
    """Captum's attribution methods.

    Raises:
        UserInputError: if it, or what its KernelSHAP needs, is not installed.
    """
    try:
        import captum.attr
        import sklearn  # noqa: F401 (KernelSHAP fits with it)
    except ImportError as error:
        raise UserInputError(
            f'The method "captum" needs a package that is not installed ({error}). Install it '
            'with: python -m pip install "captum>=0.9" "scikit-learn>=1.6" (the extra "captum").'
        ) from error
    return captum.attr


@contextmanager
def random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Global random states that begin at a seed, for a library that draws from them."""
    before = np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
