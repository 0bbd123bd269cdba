"""What the trained methods share: their hyperparameters and one call of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from methods.core.intervention import Intervention
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

    def train(
        self, subject: SubjectModel, intervention: Intervention, prompts: Prompts, setting: Setting
    ) -> Trace:
        """Trains the intervention's parameters in place."""
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
