"""What the trained methods share: their hyperparameters and one call of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from methods.core.intervention import Intervention
from methods.core.memory import require_memory
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import (
    PositiveFloat,
    PositiveInt,
    Sparsity,
    Trace,
    initial,
    train,
)
from methods.method import Method, Setting

COPIES_WHILE_TRAINING = 6
"""Parameters before training, parameters, gradient, Adam's two moments, and room for one more."""


@dataclass(frozen=True)
class TrainedMethod(Method):
    """Hyperparameters of Adam on -Psi (Eq. 9).

    Attributes:
        learning_rate: Adam's, constant; the defaults fit 25 full-batch steps (the paper's are a
            tenth of them, for more steps).
        epochs: passes over the train prompts.
        batch_size: prompts a step; all of them if None.
        initial_deviation: standard deviation of the parameters before training.
    """

    trained: ClassVar[bool] = True

    learning_rate: PositiveFloat = 1e-2
    epochs: PositiveInt = 25
    batch_size: PositiveInt | None = None
    initial_deviation: PositiveFloat = 1e-5

    @property
    def proximal(self) -> bool:
        """Whether lambda_m M_1 is maximised by proximal steps (see `SparseMethod`)."""
        return False

    def initial(self, shape: tuple[int, ...], setting: Setting) -> Float[Tensor, "*shape"]:
        """Parameters before training."""
        return initial(shape, self.initial_deviation, setting.seed)

    def initial_channels(
        self, subject: SubjectModel, grid: PointGrid, setting: Setting, what: str, kinds: int = 1
    ) -> Float[Tensor, "*kind place layer position width"]:
        """Parameters before training, one a channel of every point.

        Args:
            subject: the model.
            grid: the points.
            setting: of the fit.
            what: what they are, as a message names them.
            kinds: how many of them a channel has; 1 is no axis.

        Raises:
            NotEnoughMemoryError: if they and what Adam keeps of them do not fit.
        """
        width = max(grid.widths(subject.d_model))
        require_memory(
            COPIES_WHILE_TRAINING * 4 * kinds * grid.n_points * width,
            subject.device,
            f"{what} of {grid.n_points} points and width {width} in training",
            "fewer sites, layers or positions",
        )
        return self.initial((kinds, *grid.shape, width)[kinds == 1 :], setting)

    def train(
        self,
        subject: SubjectModel,
        intervention: Intervention,
        prompts: Prompts,
        setting: Setting,
        rates: Mapping[str, float] | None = None,
        before_step: Callable[[], Tensor] | None = None,
    ) -> Trace:
        """Trains the intervention's parameters in place.

        Args:
            subject: the model.
            intervention: what is trained.
            prompts: on which.
            setting: of the fit.
            rates: learning rates of parameters, by name, that are not `learning_rate`.
            before_step: is called before each step; gives what is minimised besides -Psi.
        """
        return train(
            subject,
            intervention,
            prompts,
            setting.objective,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=setting.seed,
            sparsity="proximal" if self.proximal else "penalty",
            rates=rates,
            before_step=before_step,
        )


@dataclass(frozen=True)
class SparseMethod(TrainedMethod):
    """A trained method whose parameters can become exactly 0.

    Attributes:
        sparsity: `penalty` is the paper's, whose gradient under Adam never gives a zero;
            `proximal` gives exact ones, and more of them the larger lambda_m is (up to 1).
    """

    sparsity: Sparsity = "penalty"

    @property
    def proximal(self) -> bool:
        """Whether `sparsity` is."""
        return self.sparsity == "proximal"
