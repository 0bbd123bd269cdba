"""Commands that take a fitted intervention elsewhere: `export` and `apply`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import CellArgument, PluginOption, ResultsOption
from bench.store.results import find_cell
from tasks.errors import UserInputError
from tasks.text import visible
from tasks.tokens import behind_bos, token_strings

if TYPE_CHECKING:
    from torch import Tensor

    from bench.models.load import LoadedModel
    from bench.store.records import CellRecord, PromptRecord
    from methods.core.intervention import Intervention

SHOWN = 10


def export(
    cell: CellArgument,
    file: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    results: ResultsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Writes a cell's intervention as a safetensors file with a JSON header."""
    from bench.steering import intervention_of, save_intervention

    if file.exists() and not force:
        raise UserInputError(f"{file} is there already and stays as it is; --force replaces it.")
    store, cell_id = find_cell(cell, results)
    stored = store.read(cell_id)
    intervention, record = intervention_of(stored), stored.record
    train = record.prompts["train"]
    about = {
        "cell": record.id,
        "model": record.settings["model"],
        "task": record.task,
        "method": record.method,
        "beta_star": record.beta.star if record.beta else None,
        "tokens": train[0].tokens,
    }
    save_intervention(intervention, file, about)
    typer.echo(f"wrote {visible(str(file))}")
    typer.echo(f"It is for {_kind_of_prompt(intervention, train[0])}.")


def _kind_of_prompt(intervention: Intervention, example: PromptRecord) -> str:
    """What the intervention can be put to work on, in words."""
    from methods.core.steered_text import takes_any_length

    grid = intervention.grid
    length = "any number of" if takes_any_length(intervention) else str(grid.n_positions)
    if not grid.has_bos:
        return f"prompts of {length} tokens, with no BOS in front"
    at = next(at for at, token in enumerate(example.token_ids) if token >= 0)  # behind padding
    bos = visible(repr(example.tokens[at]))
    return f"prompts of {length} tokens, of which the first is the BOS {bos}"


def apply(
    cell: CellArgument,
    prompt: Annotated[
        str | None, typer.Option(help="The prompt; the cell's first train prompt by default.")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(help="Strength; beta* by default (1 for a trained method)."),
    ] = None,
    results: ResultsOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    plugin: PluginOption = None,
) -> None:
    """Steers a cell's model on a prompt, and shows the most likely next tokens before and after."""
    from bench.plugins import install
    from bench.steering import intervention_of, strength_of

    install(plugin or ())
    store, cell_id = find_cell(cell, results)
    stored = store.read(cell_id)
    record = stored.record
    intervention = intervention_of(stored)
    prompt = _first_prompt(record) if prompt is None else _text(prompt)
    if beta is None:
        beta = record.beta.star if record.beta and record.beta.star is not None else 1.0
    strength = strength_of(beta)
    model = model_of(record, device)
    before, after = _probabilities(model, intervention, _tokens(model, prompt), strength)
    typer.echo(f"prompt: {visible(prompt)}")
    typer.echo(f"{visible(record.method)} on {visible(record.task)}, beta = {beta:g}")
    for title, probabilities in (("before", before), ("after", after)):
        typer.echo(f"{title}:")
        values, top = probabilities.topk(min(SHOWN, len(probabilities)))
        for value, token in zip(values.tolist(), top.tolist(), strict=True):
            text = token_strings(model.tokenizer, [token])[token]
            typer.echo(f"  {value:7.4f}  {visible(repr(text))}")


def _first_prompt(record: CellRecord) -> str:
    train = record.prompts.get("train", [])
    if not train:
        raise UserInputError(f"{record.id} holds no train prompt: give one with --prompt.")
    return train[0].clean


def _text(prompt: str) -> str:
    """A prompt from the command line, whose bytes may be no text."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UserInputError(
            f"--prompt is no UTF-8 text behind its first {error.start} characters."
        ) from None
    return prompt


def _tokens(model: LoadedModel, prompt: str) -> list[int]:
    """A prompt's ids behind the model's BOS.

    Raises:
        UserInputError: for a prompt of none, of more than the model was made for, and of some that
            it does not have.
    """
    ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tokens = behind_bos(ids, model.bos_id)
    longest, known = model.limits.context, model.limits.vocabulary
    if not ids or len(tokens) > (longest or len(tokens)):
        raise UserInputError(
            f"--prompt has {len(tokens)} tokens (BOS included); {model.name} takes "
            f"{longest or 'any number'}, and one behind the BOS at least."
        )
    if max(tokens) >= (known or max(tokens) + 1):
        raise UserInputError(
            f"--prompt has the token id {max(tokens)} in this tokenizer, and {model.name} has "
            f"{known} tokens."
        )
    return tokens


def model_of(record: CellRecord, device: str) -> LoadedModel:
    """The model that a cell is about.

    Raises:
        UserInputError: if what has its name was changed since.
    """
    from bench.models.load import load_model

    stated = record.settings["model"]
    unsaid = [key for key in ("dtype", "packed", "digest") if key not in stated]
    if unsaid:
        raise UserInputError(f"{record.id} does not say its model's {', '.join(unsaid)}.")
    model = load_model(
        stated["name"],
        dtype=stated["dtype"],
        device=device,
        packed=stated["packed"],
        bos=str(stated["bos"]) if "bos" in stated else None,
    )
    content = record.provenance.get("model_content", model.content)
    if (model.digest, model.content) != (stated["digest"], content):
        raise UserInputError(
            f'Model "{stated["name"]}" has the digest {model.digest} and holds {model.content}, '
            f"but the cell is about {stated['digest']}, which held {content}: it was changed since."
        )
    bos = record.provenance.get("bos_id", model.bos_id)
    if model.bos_id != bos:
        raise UserInputError(
            f'Model "{stated["name"]}" has the BOS {model.bos_id} here, but the cell was computed '
            f"with {visible(str(bos))}: its entry was changed since."
        )
    return model


def _probabilities(
    model: LoadedModel, intervention: Intervention, tokens: list[int], beta: float
) -> tuple[Tensor, Tensor]:
    """Next-token probabilities without and with the intervention.

    Raises:
        UserInputError: where the strength leaves no numbers.
    """
    import torch

    from bench.steering import steered

    row = torch.tensor([tokens], device=model.device)
    with torch.no_grad():
        before = model.bridge(row)[0, -1].float().softmax(-1)
        with steered(model.bridge, intervention, beta):
            after = model.bridge(row)[0, -1].float().softmax(-1)
    if not bool(torch.isfinite(after).all()):
        raise UserInputError(
            f"beta = {beta:g} is more than {model.dtype} can hold: the steered logits are NaN."
        )
    return before, after
