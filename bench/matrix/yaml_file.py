"""YAML of people one does not know: no code, no bombs, no more than a matrix can need."""

from __future__ import annotations

from pathlib import Path

import yaml

from tasks.errors import UserInputError

MAX_BYTES = 256 * 1024
"""A matrix of a million cells is a few kilobytes; PyYAML reads some 100 kB a second."""
MAX_NODES = 100_000
"""Values after every alias is written out."""


def load_yaml(path: Path) -> object:
    """What a YAML file holds, in plain types.

    Raises:
        UserInputError: if it cannot be read, is not YAML or UTF-8, is too large or nested too
            deeply, its aliases blow up, or a key stands twice in a mapping.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserInputError(
                f"{path} has {size} bytes; a matrix has {MAX_BYTES} at most, so it is not read."
            )
        loader = yaml.SafeLoader(path.read_text("utf-8"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _expanded(node, {}) > MAX_NODES:
                raise UserInputError(
                    f"{path} holds more than {MAX_NODES} values once its aliases are written out."
                )
            _check_keys(node, path, set())
            content: object = loader.construct_document(node)
            return content
        finally:
            loader.dispose()
    except RecursionError:
        raise UserInputError(f"{path} is nested too deeply, or in itself.") from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        if isinstance(error, UserInputError):
            raise
        reason = " ".join(str(error).split())
        raise UserInputError(f"{path} is not YAML that can be read: {reason}") from None


def _check_keys(node: yaml.Node, path: Path, seen: set[int]) -> None:
    """Raises UserInputError for a key that stands twice: PyYAML would take the last.

    Before merge keys (`<<`) are carried out: what they bring may be overridden.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        named, line = (key.tag, str(key.value)), key.start_mark.line + 1
        if named in lines:
            raise UserInputError(
                f'{path}: the key "{key.value}" stands in line {lines[named]} and again in line '
                f"{line}: one of the two has to go."
            )
        if isinstance(key, yaml.ScalarNode):
            lines[named] = line
    for child in _children(node):
        _check_keys(child, path, seen)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return []


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; one that holds itself raises RecursionError."""
    if id(node) in known:
        if known[id(node)] < 0:
            raise RecursionError
        return known[id(node)]
    known[id(node)] = -1
    known[id(node)] = 1 + sum(_expanded(child, known) for child in _children(node))
    return known[id(node)]
