"""What a cell is: everything that decides its numbers, and the id that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from bench.matrix.named import NamedMethod, NamedTask
from bench.matrix.schema import Matrix, ModelChoice, ObjectiveWeights, PromptCounts
from bench.matrix.stages import Stages, strengths_a_decade
from bench.models.load import stated_of
from methods import METHODS
from methods.core.points import parse_sites
from methods.method import LATER
from tasks import TASKS
from tasks.registry import Entry

NUMBERS_VERSION = 5
"""Raised whenever a change of the suite changes numbers: cells of older versions run again."""


CHECKS = ("sanity", "specificity")
"""Settings of what is measured of a method that its scores do not depend on, nor what starts from
them."""

HALF = ("float16", "bfloat16")
ROWS_IN_HALF = {"cpu": 32, "cuda": 64}
"""Rows of a forward in half precision, by kind of device, where a matrix leaves them open."""


def model_settings(
    model: ModelChoice,
    digest_of: Callable[[str], str],
    device_of: Callable[[str], str],
    stated: Callable[[str], Mapping[str, str]] = stated_of,
) -> dict[str, Any]:
    """What of a model decides numbers; a GPU's number does not.

    A stated BOS and a plug-in's code stand there only where there are any.
    """
    return {
        "name": model.name,
        "digest": digest_of(model.name),
        "dtype": model.dtype,
        "device": device_of(model.device).partition(":")[0],
        "packed": model.packed,
        "autocast": model.autocast,
        "tf32": model.tf32,
        **stated(model.name),
        **model.stated,
    }


class Asked(NamedTuple):
    """What the cells of a model's methods are asked, one value of every list of the matrix."""

    task: NamedTask
    seed: int
    prompts: PromptCounts
    objective: ObjectiveWeights


def settings_of(
    matrix: Matrix,
    model: Mapping[str, Any],
    asked: Asked,
    method: NamedMethod,
    stages: Stages,
    transfer: Sequence[NamedTask],
    elsewhere: Sequence[NamedTask],
    parent: str | None,
) -> dict[str, Any]:
    """Everything that decides a cell's numbers, in plain types.

    Args:
        model: see `model_settings`.
        stages: what is measured of the method.
        transfer: tasks that what is trained is taken to.
        elsewhere: tasks on which its intervention should do nothing.
        parent: the scores that this cell starts from (`scored_as`).
    """
    tried = [candidate.model_dump(exclude_none=True) for candidate in matrix.select]
    taken_to = [{**_task_settings(other), "data": other.data} for other in transfer]
    return {
        "numbers_version": NUMBERS_VERSION,
        "model": dict(model),
        "task": _task_settings(asked.task),
        "task_data": asked.task.data,
        "method": {"name": method.name, **_method_settings(method)},
        **_code(TASKS[asked.task.name], METHODS[method.name]),
        "seed": asked.seed,
        "sites": [site.value for site in parse_sites(matrix.sites)],
        "positions": _canonical(matrix.positions),
        "keep_final_residual": matrix.keep_final_residual,
        "sweep": matrix.sweep.model_dump(),
        **({"sparsity": matrix.sparsity.model_dump()} if matrix.sparsity.points else {}),
        "prices": matrix.prices.model_dump(),
        "localisation": matrix.localisation.model_dump(),
        **({"retrained": matrix.retrained.model_dump()} if matrix.retrained.k else {}),
        **({"circuit": matrix.circuit.model_dump()} if matrix.circuit else {}),
        **({"one_point": matrix.one_point.model_dump()} if matrix.one_point else {}),
        **({} if matrix.smallest_k else {"smallest_k": False}),
        **({"brief": True} if matrix.controls.brief and type(method.method).control else {}),
        "rows_per_forward": rows_setting(matrix.rows_per_forward, model),
        **({"select": tried} if tried and type(method.method).trained else {}),
        **_tuning(matrix, asked, method),
        "prompts": asked.prompts.model_dump(),
        "objective": asked.objective.model_dump(),
        **({"transfer": taken_to} if taken_to else {}),
        **_checks(stages, elsewhere),
        "parent": parent,
    }


def _tuning(matrix: Matrix, asked: Asked, method: NamedMethod) -> dict[str, int]:
    """How finely beta* is looked for, where it is and at other than two strengths a decade."""
    tuned = not type(method.method).trained or matrix.sparsity.points > 0
    a_decade = strengths_a_decade(asked.prompts.train)
    return {"strengths_a_decade": a_decade} if tuned and a_decade != 2 else {}


def _checks(stages: Stages, elsewhere: Sequence[NamedTask]) -> dict[str, Any]:
    """Settings of `CHECKS`, of those that are measured."""
    found: dict[str, Any] = {}
    if stages.sanity:
        found["sanity"] = stages.sanity.model_dump()
    if stages.specificity:
        tasks = [{**_task_settings(other), "data": other.data} for other in elsewhere]
        found["specificity"] = {**stages.specificity.model_dump(), "tasks": tasks}
    return found


def rows_setting(setting: int | str, model: Mapping[str, Any]) -> int | str:
    """Rows of a forward as a part of what a cell is: what the matrix says, "auto" in fp32.

    In half precision numbers depend on the rows of a forward, so there they are fixed, and do not
    follow the memory at hand.
    """
    if setting != "auto" or not {model["dtype"], model["autocast"]}.intersection(HALF):
        return setting
    return ROWS_IN_HALF.get(model["device"], ROWS_IN_HALF["cuda"])


def _canonical(positions: str | list[int]) -> str | list[int]:
    """The one of the ways in which the same positions can be written."""
    if isinstance(positions, str):
        return positions
    return "last" if positions == [-1] else sorted(positions)


def _task_settings(task: NamedTask) -> dict[str, Any]:
    """The settings that a task has; what is not said (None) is left away."""
    settings: dict[str, Any] = asdict(task.task)  # type: ignore[call-overload]
    return {"name": task.name, **{k: value for k, value in settings.items() if value is not None}}


def _method_settings(named: NamedMethod) -> dict[str, Any]:
    """The settings that a method has; of those that it got later, what is not the default."""
    settings: dict[str, Any] = asdict(named.method)  # type: ignore[call-overload]
    for one in fields(named.method):  # type: ignore[arg-type]
        if one.metadata == LATER and settings[one.name] == one.default:
            del settings[one.name]
    return settings


def _code(*entries: Entry) -> dict[str, list[str]]:
    """Which code plug-ins are; the suite's own is known by NUMBERS_VERSION."""
    versions = [entry.version for entry in entries if entry.version]
    return {"plugins": versions} if versions else {}


def same_content(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two cells' settings are those of the same numbers; what is no settings is not."""
    try:
        return _content(one) == _content(other)
    except (AttributeError, KeyError, TypeError):
        return False


def scored_as(settings: Mapping[str, Any]) -> str:
    """What the scores of a cell with these settings depend on, as a digest.

    Of a cell without `CHECKS` it is the end of its id.
    """
    return _digest({key: value for key, value in settings.items() if key not in CHECKS})


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(_content(settings).encode()).hexdigest()[:16]


def _content(settings: Mapping[str, Any]) -> str:
    """Everything that decides the numbers as text.

    What a model is called and where a task's file lies, be it a part of a mixture or one that is
    taken to, or a method's, whose digest stands beside it, are not part of it.
    """
    model = {key: value for key, value in settings["model"].items() if key != "name"}
    files = [key for key in ("task", "transfer", "specificity") if key in settings]
    files += ["method"] if "digest" in settings["method"] else []
    known = {key: _without_paths(settings[key]) for key in files}
    return json.dumps({**settings, "model": model, **known}, sort_keys=True)


def _without_paths(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _without_paths(value) for key, value in data.items() if key != "path"}
    return [_without_paths(item) for item in data] if isinstance(data, list | tuple) else data


def cell_id(model: str, asked: Asked, method: NamedMethod, settings: Mapping[str, Any]) -> str:
    """A readable name with a digest of the content, safe as a directory's name."""
    called, draw = model.rstrip("/").rsplit("/")[-1], method.method.number_of_draw
    words = f"{called}-{asked.task.label}-{method.label}-{draw}-s{asked.seed}"
    readable = re.sub(r"[^A-Za-z0-9_=,-]+", "_", words).strip("_")[:120]
    return f"{readable}-{_digest(settings)}"
