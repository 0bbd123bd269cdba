"""Scores from a file: what another program found, evaluated as any method's scores."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch

from methods.controls import points_that_could_matter
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.score_file import NodeScores, node_name, read_score_file
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting
from tasks.errors import UserInputError

SHOWN_NODES = 8


@dataclass(frozen=True)
class FileScores(Method):
    """Scores of heads and MLPs from a file in the format of MIB (`methods.core.score_file`).

    A file has one score for a head or MLP, whatever the position. It is divided evenly among the
    positions at which the point could matter, so that their sum is the file's score.

    Source: 'MIB: A Mechanistic Interpretability Benchmark' (Mueller et al. 2025).
    """

    sites: ClassVar[frozenset[Site]] = frozenset({Site.Z, Site.O, Site.MLP_OUT})

    path: str = field(repr=False)
    """A .json or .pt file."""
    digest: str = field(init=False, repr=False, default="")
    """sha256 of the file."""

    def __post_init__(self) -> None:
        """Reads the file.

        Raises:
            UserInputError: for a file that cannot be read or is no score file.
        """
        read = read_score_file(Path(os.path.expanduser(self.path)))
        object.__setattr__(self, "digest", read.digest)
        object.__setattr__(self, "_read", read)

    @property
    def read(self) -> NodeScores:
        """What the file holds."""
        read: NodeScores = self._read  # type: ignore[attr-defined]
        return read

    @property
    def title(self) -> str:
        """What the method is called in tables."""
        return f"file_scores[{Path(self.path).name}]"

    @property
    def signed(self) -> bool:
        """Whether a score of the file is below 0; else they are taken for sizes."""
        return min(self.read.scores.values()) < 0

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """None: the model is not run."""
        return 0

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """The file's scores at the points of the grid.

        Raises:
            UserInputError: if the file is about a model of another shape.
        """
        self._check_model(subject)
        matter, scores = points_that_could_matter(prompts, grid), torch.zeros(grid.shape)
        without: list[str] = []
        for row, place in enumerate(grid.places):
            for layer in range(grid.n_layers):
                name = str(node_name(place, layer))
                if name not in self.read.scores:
                    without.append(name)
                    continue
                points = matter[row, layer]
                points = points if points.any() else grid.included[row, layer]
                scores[row, layer, points] = self.read.scores[name] / int(points.sum())
        return Attribution(scores, notes=_notes(list(dict.fromkeys(without))))

    def _check_model(self, subject: SubjectModel) -> None:
        heads = subject.heads.n_heads if subject.heads else 0
        for what, own, stated in (
            ("layers", subject.n_layers, self.read.n_layers),
            ("heads", heads, self.read.n_heads),
            ("d_model", subject.d_model, self.read.d_model),
        ):
            if stated is not None and own != stated:
                raise UserInputError(
                    f'Score file "{self.path}" is about a model with {what} {stated}; this one has '
                    f"{what} {own}."
                )


def _notes(without: list[str]) -> tuple[str, ...]:
    if not without:
        return ()
    more = len(without) - SHOWN_NODES
    names = ", ".join(without[:SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")
    return (
        f"the file has no score of {names}: taken as 0 here (the benchmark keeps such nodes in "
        "every circuit)",
    )
