"""A method that is checked, and what it gives on tiny models of six architectures."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from bench.conformance.check import NotConformingError, problem_of, require
from bench.conformance.small import grid_on, tiny_prompts, tiny_subject
from bench.execution.unchanged import modes_kept
from bench.models.tiny import ARCHITECTURES
from methods import METHODS
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.method import Attribution, Setting
from tasks.errors import no_exit
from tasks.registry import configure, lookup


class Fit(NamedTuple):
    """What a method gives on a model that was made for it."""

    model: SubjectModel
    grid: PointGrid
    found: Attribution

    @property
    def intervention(self) -> Intervention:
        """What the suite steers with."""
        return self.found.intervention or StaticScaling.from_scores(self.grid, self.found.scores)


class Case:
    """A method with its default settings but for those below, and its fits on tiny models."""

    needed: ClassVar[Mapping[str, object]] = {
        "of": "grad_scalar",
        "path": str(Path(__file__).with_name("scores.json")),
    }
    """Settings that have no default: another method, a file of scores."""
    given: ClassVar[Mapping[str, object]] = {"epochs": 5, "steps": 3, "samples": 4}
    """Settings that are not the default, for short fits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entry = lookup(METHODS, name, "method")
        self.kind: type[Any] = self.entry.load()
        has_default = {one.name: one.default is not MISSING for one in fields(self.kind)}
        settings = {key: value for key, value in self.given.items() if key in has_default}
        settings |= {k: value for k, value in self.needed.items() if not has_default.get(k, True)}
        self.method: Any = configure(self.kind, settings, f'method "{name}"')

    @property
    def file(self) -> str | None:
        """Where the method's code is."""
        return getattr(sys.modules.get(self.kind.__module__), "__file__", None)

    def sites(self, model: SubjectModel) -> list[str]:
        """The sites that both the method and the model have."""
        return sorted(site.value for site in self.method.sites & model.sites)

    def fit(
        self,
        model: SubjectModel,
        grid: PointGrid | None = None,
        seed: int = 0,
        prompts: Prompts | None = None,
        parent: Tensor | None = None,
    ) -> Fit:
        """A fit on the same prompts, at every site that both have; a parent gives scores.

        Raises:
            NotConformingError: if what it gives is no attribution.
        """
        grid = grid or grid_on(model, self.sites(model))
        if self.method.parent is not None and parent is None:
            parent = torch.randn(grid.shape, generator=torch.Generator().manual_seed(99))
        setting = Setting(Objective(), seed, parent)
        found = self.method.fit(model, prompts or tiny_prompts(), grid, setting)
        require(
            isinstance(found, Attribution),
            f"fit has to return a methods.method.Attribution; it returns a {_kind(found)}",
        )
        for name in ("scores", "prompt_scores"):
            value = getattr(found, name)
            require(
                isinstance(value, Tensor) or (value is None and name == "prompt_scores"),
                f"{name} have to be a torch.Tensor, and are a {_kind(value)}",
            )
        return Fit(model, grid, found)

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """What it gives on each tiny model that has a site it can score.

        Raises:
            NotConformingError: says on which one a fit went wrong.
        """
        found = {}
        for architecture in ARCHITECTURES:
            model = tiny_subject(architecture)
            try:
                with no_exit(), modes_kept():
                    if self.sites(model):
                        found[architecture] = self.fit(model)
            except Exception as error:
                problem = problem_of(error, self.file)
                raise NotConformingError(f"on {architecture}: {problem}") from error
        return found


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
