"""Plug-ins: methods, tasks and models from packages of somebody else's, and from single files.

A package names them as entry points:

    [project.entry-points."attribution_bench.methods"]
    my_method = "my_package.my_method:MyMethod"

and likewise `attribution_bench.tasks` (a task's class) and `attribution_bench.models` (a
`bench.models.load.ModelEntry`). A file holds tables: `METHODS = {"my_method": MyMethod}`, `TASKS`,
`MODELS`. Their code runs with the rights of whoever starts the suite, as any installed package's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.models.load import MODELS, ModelEntry
from bench.plugin_entry import PluginEntry, PluginError, broken, lacks_of_model, require
from bench.store.records import CellRecord
from methods import METHODS
from tasks import TASKS
from tasks.errors import no_exit
from tasks.registry import Entry

GROUP = "attribution_bench"
__all__ = [
    "PluginError",
    "install",
    "install_source",
    "package_digest",
    "require_plugins",
    "uninstall",
]

TABLES: Mapping[str, dict[str, Any]] = {"METHODS": METHODS, "TASKS": TASKS, "MODELS": MODELS}
KIND_OF = {"METHODS": "method", "TASKS": "task", "MODELS": "model"}


def install(files: Iterable[str | Path] = ()) -> None:
    """Adds the plug-ins of all installed packages and of `files` to the tables of names.

    What is there already from the same package or file is left, or replaced if it has changed.

    Raises:
        PluginError: for a name that is taken, and for a plug-in that cannot be loaded.
    """
    for kind in TABLES:
        for point in entry_points(group=f"{GROUP}.{kind.lower()}"):
            _add(kind, point.name, _entry_of_package(kind, point), _origin(point))
    for file in files:
        path = Path(file).expanduser()
        origin = f'the file "{path}"'
        try:
            source = path.read_bytes()
        except OSError as error:
            raise PluginError(f"--plugin: {path} cannot be read: {error.strerror}.") from None
        install_source(source, str(path.resolve()), origin)


def install_source(source: bytes, path: str, origin: str) -> None:
    """Adds the plug-ins of a file's source, which need not be on this machine's disk.

    Raises:
        PluginError: as `install`.
    """
    digest = hashlib.sha256(source).hexdigest()
    name = f"{GROUP}_plugin_{digest[:16]}"
    module = sys.modules.get(name) or _run(source, path, name, origin)
    tables = {kind: getattr(module, kind) for kind in TABLES if hasattr(module, kind)}
    if not tables:
        raise PluginError(
            f'{origin} adds nothing: it needs a table such as METHODS = {{"my_method": MyMethod}}.'
        )
    for kind, table in tables.items():
        if not isinstance(table, Mapping):
            raise PluginError(f"{origin}: {kind} has to be a dictionary of names.")
        for key, value in table.items():
            _add(kind, key, _entry_of_file(kind, key, value, module, origin, digest), origin)


def _run(source: bytes, path: str, name: str, origin: str) -> ModuleType:
    spec = importlib.util.spec_from_loader(name, loader=None, origin=path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = path
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with no_exit():
            exec(compile(source, path, "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise broken(origin, path, error) from error
    return module


def _entry_of_file(
    kind: str, key: str, value: object, module: ModuleType, origin: str, digest: str
) -> Entry | ModelEntry:
    if kind == "MODELS":
        return replace(_model(value, key, origin), version=f"file {digest}")
    if not isinstance(value, type):
        raise PluginError(f'{origin}: {kind}["{key}"] has to be a class, not {value!r}.')
    summary = (value.__doc__ or "").strip().partition("\n")[0] or "(it has no docstring)"
    place = f"{kind}.{key}"  # two classes of a file may have one name
    setattr(module, place, value)
    target = f"{module.__name__}:{place}"
    return PluginEntry(target, summary, origin, f"file {digest}", KIND_OF[kind], key)


def _entry_of_package(kind: str, point: EntryPoint) -> Entry | ModelEntry:
    origin, package = _origin(point), point.module.partition(".")[0]
    if kind == "MODELS":
        try:
            with no_exit():
                value = point.load()
        except Exception as error:
            raise broken(origin, point.value, error) from error
        entry = _model(value, point.name, origin)
        files = package_digest(package, without=entry.folder)  # that has a digest of its own
        return replace(entry, version=f"{origin}, files {files}")
    version = f"{origin}, files {package_digest(package)}"
    return PluginEntry(point.value, f"from {origin}", origin, version, KIND_OF[kind], point.name)


def package_digest(name: str, without: Path | None = None) -> str:
    """The sha256 over all files of an installed package: its version may stay when it is changed.

    Those in the folder `without` are left out.

    "" where there is no such package: what is wrong is said when the plug-in is loaded. Of what a
    plug-in imports from other packages nothing is known.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        return ""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [(file, file.relative_to(folder)) for folder in folders for file in folder.rglob("*")]
    if not folders and spec.origin:
        files = [(Path(spec.origin), Path(name))]
    digest = hashlib.sha256()
    for file, place in sorted(files, key=lambda pair: pair[1]):
        left_out = "__pycache__" in place.parts or (without and file.is_relative_to(without))
        if file.is_file() and not left_out:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{place.as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _model(value: Any, name: str, origin: str) -> ModelEntry:
    require(origin, "model", name, value, lacks_of_model(value))
    entry: ModelEntry = replace(value, origin=origin)
    return entry


def _origin(point: EntryPoint) -> str:
    distribution = point.dist
    if distribution is None:
        return "a package without a name"
    return f"the package {distribution.name} {distribution.version}"


def _add(kind: str, name: str, entry: Entry | ModelEntry, origin: str) -> None:
    if not isinstance(name, str):
        raise PluginError(f"{origin}: {kind} has to have names, and {name!r} is none.")
    table = TABLES[kind]
    if name in table and (_added_by.get((kind, name)) != origin):
        other = _added_by.get((kind, name), "the suite itself")
        raise PluginError(
            f'{origin} adds a {KIND_OF[kind]} "{name}", a name that {other} has taken. '
            "One of the two has to be called otherwise, or be left out."
        )
    if not name.isidentifier() and kind != "MODELS":
        raise PluginError(f'{origin}: the name "{name}" has to be letters, digits and _.')
    table[name] = entry
    _added_by[kind, name] = origin


_added_by: dict[tuple[str, str], str] = {}
"""Who added what to the tables: they are the program's, and so is this."""


def uninstall() -> None:
    """Takes all plug-ins out of the tables again."""
    for kind, name in _added_by:
        TABLES[kind].pop(name, None)
    _added_by.clear()


def require_plugins(record: CellRecord) -> None:
    """Makes sure that there is something of every package whose code a cell was computed with.

    Raises:
        PluginError: if not; names the package.
    """
    model = record.settings.get("model")
    code = [*_texts(record.settings.get("plugins"))]
    code += _texts([model.get("plugin")] if isinstance(model, dict) else [])
    for one in code:
        package, found, _ = one.partition(", files ")
        name = package.rpartition(" ")[0]
        if found and not any(origin.startswith(f"{name} ") for origin in _added_by.values()):
            raise PluginError(
                f"{record.id} was computed with {package}, of which nothing is installed here."
            )


def _texts(values: object) -> list[str]:
    """The strings of a list out of a record, which may be anybody's."""
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else []
