"""Prepares a task for one model: encodes it and measures the unsteered model on every split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from bench.evaluation.split import Split
from bench.matrix.cells import PlannedCell
from bench.matrix.named import NamedTask
from bench.models.load import LoadedModel
from bench.store.records import GridRecord, PromptRecord
from methods.core.points import HEAD_SITES, PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.batch import PromptBatch
from tasks.encoding import EncodedTask, encode
from tasks.errors import UserInputError


@dataclass(frozen=True, eq=False)
class PreparedTask:
    """What all cells of one model and task share.

    Attributes:
        encoded: prompts as strings and token ids.
        grid: the intervention points.
        splits: train, test and, if there are prompts for it, shifted.
        random_circuits: logit differences in random circuits, by what they were drawn by.
        one_point: responses to single scalars by the number of prompts, and the passes they took.
    """

    encoded: EncodedTask
    grid: PointGrid
    splits: dict[str, Split]
    random_circuits: dict[tuple[int, ...], Float[Tensor, "kind draw prompt"]] = field(
        default_factory=dict
    )
    one_point: dict[int, tuple[Float[Tensor, "beta prompt place layer position"], int]] = field(
        default_factory=dict
    )

    @property
    def train(self) -> Split:
        """The split that methods see."""
        return self.splits["train"]

    @property
    def grid_record(self) -> GridRecord:
        """The grid as it is stored."""
        return GridRecord(
            sites=[site.value for site in self.grid.sites],
            heads={
                site.value: self.grid.heads.count(site)
                for site in self.grid.sites
                if site in HEAD_SITES and self.grid.heads
            },
            n_layers=self.grid.n_layers,
            positions=list(self.grid.positions),
            excluded=self.grid.excluded,
            notes=self.grid.notes,
        )

    @property
    def prompt_records(self) -> dict[str, list[PromptRecord]]:
        """The prompts as they are stored."""
        return {split: _records(batch) for split, batch in self.encoded.batches.items()}


def prepare_task(
    named: NamedTask, cell: PlannedCell, model: LoadedModel, subject: SubjectModel
) -> PreparedTask:
    """Encodes a task for a model and measures the unsteered model on every split.

    Args:
        named: the task: the cell's own, or another one that it is taken to.
        cell: says how many prompts there are, and which intervention points.
        model: to encode it for.
        subject: the same model, to measure.

    Raises:
        UserInputError: for prompts that break a rule on tokens, too few of them, positions outside
            the prompts, or a model whose logits are not numbers.
    """
    prompts, settings = cell.prompts, cell.settings
    encoded = encode(
        named.task,
        model.tokenizer,
        prompts.sizes,
        model.bos_id,
        prompts.seed,
        limits=model.limits,
    )
    train = encoded.batches["train"]
    _check_positions(named, settings["positions"], encoded.lengths)
    grid = make_grid(
        settings["sites"],
        settings["positions"],
        n_layers=subject.n_layers,
        n_positions=train.n_positions,
        has_bos=train.has_bos,
        keep_final_residual=settings["keep_final_residual"],
        heads=subject.heads,
    )
    splits = {
        name: Split.of(name, Prompts.of(batch, subject.device), subject)
        for name, batch in encoded.batches.items()
    }
    return PreparedTask(encoded, grid, splits)


def _check_positions(named: NamedTask, positions: str | list[int], lengths: Sequence[int]) -> None:
    """Prompts of several lengths have only their ends in common."""
    counted = [] if isinstance(positions, str) else [at for at in positions if at >= 0]
    if len(lengths) > 1 and counted:
        raise UserInputError(
            f'positions: {counted[0]} is another word in every prompt of the task "{named.label}", '
            f"which have {lengths[0]} to {lengths[-1]} tokens; count from the end, as -1."
        )


def _records(batch: PromptBatch) -> list[PromptRecord]:
    return [
        PromptRecord(
            clean=pair.clean,
            corrupted=pair.corrupted,
            answer=pair.answer,
            foil=pair.foil,
            entity=pair.entity,
            tokens=list(batch.token_strings[row]),
            token_ids=batch.tokens[row].tolist(),
            corrupted_ids=batch.corrupted[row].tolist(),
            answer_id=int(batch.answers[row]),
            foil_id=int(batch.foils[row]),
        )
        for row, pair in enumerate(batch.pairs)
    ]
