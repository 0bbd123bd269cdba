"""Compares methods on a few prompts of one's own, without a YAML file.

The model may be in memory already. What is run is an ordinary matrix: its results are a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.execution.progress import progress
from bench.execution.run import run_matrix
from bench.matrix.yaml_file import parse
from bench.models.load import load_limits, load_tokenizer
from bench.models.memory import InMemory, held
from bench.models.tokenizer import bos_of, check_bos
from bench.notebook import Run
from bench.plugins import install
from bench.steering import bridge_around
from bench.store.files import replace_file
from tasks.build import build_task
from tasks.encoding import encode
from tasks.errors import UserInputError
from tasks.records import OPTIONAL, REQUIRED
from tasks.tokens import Limits

if TYPE_CHECKING:
    from pandas import DataFrame
    from transformer_lens.model_bridge import TransformerBridge

LIGHT: Mapping[str, object] = {"controls": {"draws": 2, "shuffles": 1}, "smallest_k": False}
"""What a first look need not measure; a keyword of `compare` brings it back."""


def compare(
    methods: Sequence[str | Mapping[str, object]],
    model: Any,
    prompts: DataFrame,
    *,
    tokenizer: Any = None,
    output: str | Path = "results/compare",
    **matrix: object,
) -> Run:
    """Runs methods on prompts of one's own and gives the run.

    Finished cells in `output` are not computed again. A model in memory is left as it was found.

    Args:
        methods: names, or mappings such as {"name": "activ_patch", "direction": "denoising"}.
        model: a name as in a matrix, or a Hugging Face causal LM or a TransformerBridge in memory,
            which is identified by a checksum of configuration, weights and tokenizer.
        prompts: columns clean, corrupted, answer, foil, and maybe split (train, test, shifted) and
            entity; without split a half each is for train and test.
        tokenizer: of a Hugging Face model in memory.
        output: the results directory; the prompts are kept beside it, as `<output>.jsonl`.
        matrix: other keys of a matrix, such as `positions="last"` or `sites=["mlp_out"]`.

    Raises:
        UserInputError: for a mistake in any of them, before anything is computed.
    """
    plugins = matrix.get("plugins", [])
    install(plugins if isinstance(plugins, list) else [])
    with _named(model, tokenizer) as (choice, reader, bos_id, limits):
        file = _kept(prompts, Path(output))
        task = build_task(str(file), {})[1]
        sizes = {"train": len(prompts), "test": len(prompts), "shifted": len(prompts)}
        encoded = encode(task, reader, sizes, bos_id, 0, at_most=True, limits=limits)
        counts = {split: len(batch) for split, batch in encoded.batches.items()}
        whole = {
            "models": [choice],
            "tasks": [str(file)],
            "methods": list(methods),
            "prompts": {"shifted": 0, **counts},
            **LIGHT,
            **matrix,
        }
        with progress() as watcher:
            outcome = run_matrix(parse(whole, "compare"), output, watcher)
    return Run(outcome.store.directory)


Named = tuple[dict[str, object], Any, int | None, Limits]
"""A model as a matrix names it, its tokenizer, its BOS, and the prompts that it takes."""


@contextmanager
def _named(model: Any, tokenizer: Any) -> Iterator[Named]:
    """A model by name or in memory; in the block, one in memory has a name.

    Raises:
        UserInputError: for what is no model, and a model whose tokenizer is not given.
    """
    if isinstance(model, str | Path):
        yield {"name": str(model)}, *load_tokenizer(str(model)), load_limits(str(model))
        return
    tokenizer = tokenizer or getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise UserInputError("A Hugging Face model needs its tokenizer: tokenizer=... says which.")
    with bridge_around(model) as bridge, _frozen(bridge):
        memory = InMemory(bridge, tokenizer, type(bridge.original_model).__name__)
        with held(memory) as name:
            choice = {"name": name, "dtype": memory.dtype, "device": memory.device, "packed": False}
            bos_id, _ = bos_of(tokenizer, None, name)
            check_bos(name, bos_id, memory.limits)
            yield choice, tokenizer, bos_id, memory.limits


@contextmanager
def _frozen(bridge: TransformerBridge) -> Iterator[None]:
    """No gradient for any weight and no dropout, in the block."""
    training = {module: module.training for module in bridge.modules()}
    wanted = [(weight, weight.requires_grad) for weight in bridge.parameters()]
    bridge.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for weight, mode in wanted:
            weight.requires_grad_(mode)


def _kept(prompts: DataFrame, output: Path) -> Path:
    """The prompts as a task's file, beside the results.

    Left away are cells without a value, and numbers in columns that are no part of a prompt.

    Raises:
        UserInputError: for what is no DataFrame, or has a column twice.
    """
    columns = getattr(prompts, "columns", None)
    if columns is None:
        raise UserInputError(
            f"prompts: a pandas DataFrame is needed, and this is {type(prompts).__name__}; "
            "DataFrame(...) makes one of a list of rows."
        )
    if twice := [str(name) for name in columns[columns.duplicated()]]:
        raise UserInputError(f'prompts: the column "{twice[0]}" is there twice.')
    rows = [
        {
            str(key): value
            for key, value in row.items()
            if there[key] and (isinstance(value, str) or key in REQUIRED + OPTIONAL)
        }
        for row, there in zip(
            prompts.to_dict("records"), prompts.notna().to_dict("records"), strict=True
        )
    ]
    file = output.with_name(f"{output.name}.jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in rows)
    replace_file(file, text.encode("utf-8", "surrogatepass"))  # which reading it names
    return file
