"""A task made ready for one model: encoded, on the device, with the unsteered model measured."""

from __future__ import annotations

from dataclasses import dataclass

from bench.cells import NamedTask
from bench.config import Matrix, PromptCounts
from bench.models import LoadedModel
from bench.records import GridRecord, PromptRecord
from bench.split import Split
from methods.core.points import HEAD_SITES, PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.encoding import EncodedTask, PromptBatch, encode
from tasks.errors import UserInputError


@dataclass(frozen=True, eq=False)
class PreparedTask:
    """What all cells of one model and task share.

    Attributes:
        encoded: prompts as strings and token ids.
        grid: the intervention points.
        splits: train, test and, if there are prompts for it, shifted.
    """

    encoded: EncodedTask
    grid: PointGrid
    splits: dict[str, Split]

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
    named: NamedTask,
    prompts: PromptCounts,
    matrix: Matrix,
    model: LoadedModel,
    subject: SubjectModel,
) -> PreparedTask:
    """Encodes a task for a model and measures the unsteered model on every split.

    Raises:
        UserInputError: for prompts that break a rule on tokens, too few of them, positions outside
            the prompts, or a model whose logits are not numbers.
    """
    encoded = encode(named.task, model.tokenizer, prompts.sizes, model.bos_id, prompts.seed)
    train = encoded.batches["train"]
    lengths = sorted({int(n) for batch in encoded.batches.values() for n in batch.lengths})
    if len(lengths) > 1:
        raise UserInputError(
            f'Task "{named.label}": its prompts have {lengths[0]} to {lengths[-1]} tokens, and '
            'every method needs prompts of one length; say "lengths: one" where the task has it.'
        )
    grid = make_grid(
        matrix.sites,
        matrix.positions,
        n_layers=subject.n_layers,
        n_positions=train.n_positions,
        has_bos=train.has_bos,
        keep_final_residual=matrix.keep_final_residual,
        heads=subject.heads,
    )
    splits = {
        name: Split.of(name, Prompts.of(batch, subject.device), subject)
        for name, batch in encoded.batches.items()
    }
    return PreparedTask(encoded, grid, splits)


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
