"""A method that is checked, and its fits on tiny models: each on a model of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.conformance.check import NotConformingError, raised, require
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
from methods.method import Attribution, Method, Setting
from tasks.errors import no_exit
from tasks.registry import configure, lookup


class Case:
    """A method with its default settings, and what is done with it again and again."""

    parents: ClassVar[Mapping[str, str]] = {"of": "grad_scalar"}
    """Settings without a default that name another method."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entry = lookup(METHODS, name, "method")
        self.kind: type[Any] = self.entry.load()
        require(
            isinstance(self.kind, type) and issubclass(self.kind, Method),
            f"{self.entry.target} has to be a subclass of methods.method.Method",
        )
        require(is_dataclass(self.kind), "the class has to be a dataclass: @dataclass(frozen=True)")
        known = {field.name for field in fields(self.kind)}
        settings = {key: value for key, value in self.parents.items() if key in known}
        self.method: Any = configure(self.kind, settings, f'method "{name}"')
        self._found: dict[str, tuple[PointGrid, Attribution]] = {}

    @property
    def file(self) -> str | None:
        """Where the method's code is."""
        return getattr(sys.modules.get(self.kind.__module__), "__file__", None)

    @cached_property
    def architectures(self) -> list[str]:
        """The tiny models that have a site the method can score."""
        return [name for name in ARCHITECTURES if self.sites(tiny_subject(name))]

    def sites(self, model: SubjectModel) -> list[str]:
        """The sites that both the method and the model have."""
        return sorted(site.value for site in self.method.sites & model.sites)

    def grid(self, model: SubjectModel) -> PointGrid:
        """Every site that both have, every position."""
        return grid_on(model, self.sites(model))

    def fit(
        self,
        model: SubjectModel,
        grid: PointGrid | None = None,
        seed: int = 0,
        prompts: Prompts | None = None,
        parent: Tensor | None = None,
    ) -> Attribution:
        """A fit on the same prompts; a method with a parent gets scores.

        Raises:
            NotConformingError: if what it gives is no attribution.
        """
        grid = grid or self.grid(model)
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
        return found  # type: ignore[no-any-return]

    def found(self, architecture: str) -> tuple[PointGrid, Attribution]:
        """What it gives on a fresh tiny model, worked out once; what it leaves is undone."""
        if architecture not in self._found:
            model = tiny_subject(architecture)
            grid = self.grid(model)
            with modes_kept():
                self._found[architecture] = grid, self.fit(model, grid)
        return self._found[architecture]

    def intervention(self, found: Attribution, grid: PointGrid) -> Intervention:
        """What the suite steers with."""
        return found.intervention or StaticScaling.from_scores(grid, found.scores)


def check_fit(case: Case) -> None:
    """it gives an attribution, on six architectures"""
    for architecture in case.architectures:
        try:
            with no_exit():
                case.found(architecture)
        except NotConformingError as error:
            raise NotConformingError(f"on {architecture}: {error}") from error
        except Exception as error:
            raise NotConformingError(f"on {architecture}: {raised(error, case.file)}") from error


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
