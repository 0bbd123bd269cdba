"""Plug-ins: methods, tasks and models from packages of somebody else's, and from single files.

A package names them as entry points:

    [project.entry-points."attribution_bench.methods"]
    my_method = "my_package.my_method:MyMethod"

and likewise `attribution_bench.tasks` (a task's class) and `attribution_bench.models` (a
`bench.models.load.ModelEntry`). A file holds tables: `METHODS = {"my_method": MyMethod}`, `TASKS`,
`MODELS`. Their code runs with the rights of whoever starts the suite, as any installed package's.
What one lacks is said whenever it is loaded; `python -m bench check NAME` tries what it does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.models.hub import HUB_ID
from bench.models.load import MODELS, ModelEntry
from bench.store.records import CellRecord
from methods import METHODS
from tasks import TASKS
from tasks.errors import UserInputError, message_of, no_exit
from tasks.registry import Entry

GROUP = "attribution_bench"
TABLES: Mapping[str, dict[str, Any]] = {"METHODS": METHODS, "TASKS": TASKS, "MODELS": MODELS}
KIND_OF = {"METHODS": "method", "TASKS": "task", "MODELS": "model"}
DATACLASS = "it has to be a dataclass: @dataclass(frozen=True)"


class PluginError(UserInputError):
    """A plug-in clashes with another name or is broken; the message names its package or file."""


def lacks_of_method(kind: type[Any]) -> Iterator[str]:
    """What keeps a class from being a method, in words."""
    from methods.method import Method

    if not issubclass(kind, Method):
        yield "it has to be a subclass of methods.method.Method"
    for name in sorted(getattr(kind, "__abstractmethods__", ())):
        yield f"it has no {name}()"
    if not is_dataclass(kind):
        yield DATACLASS


def lacks_of_task(kind: type[Any]) -> Iterator[str]:
    """What keeps a class from being a task, in words."""
    for verb in ("entities", "probe", "candidates"):
        if not callable(getattr(kind, verb, None)):
            yield f"it has no method {verb}()"
    if not isinstance(inspect.getattr_static(kind, "name", None), str):
        yield 'it has to say what it is called: name = "..."'
    if not is_dataclass(kind):
        yield DATACLASS


def lacks_of_model(entry: object) -> Iterator[str]:
    """What keeps something from being a model's entry, in words."""
    if not isinstance(entry, ModelEntry):
        yield f"it has to be a bench.models.load.ModelEntry, not {type(entry).__name__}"
        return
    if not isinstance(entry.summary, str) or not isinstance(entry.bos, str | None):
        yield "summary has to be a string, bos one or None"
    if not isinstance(entry.folder, Path | None):
        yield "folder has to be a pathlib.Path or None"
    if entry.hub_id is None and entry.folder is None:
        yield "it has neither a hub_id nor a folder"
    if entry.hub_id is not None and not HUB_ID.fullmatch(str(entry.hub_id)):
        yield f'hub_id has to be "owner/name", not {entry.hub_id!r}'


LACKS: Mapping[str, Callable[[type[Any]], Iterator[str]]] = {
    "method": lacks_of_method,
    "task": lacks_of_task,
}


@dataclass(frozen=True)
class PluginEntry(Entry):
    """A method or task of somebody else's."""

    kind: str = "method"
    """A key of `LACKS`."""
    name: str = ""
    """Its own in the table."""

    def load(self) -> type[Any]:
        """Import the module and return the class.

        Raises:
            PluginError: if that fails, for whatever reason, and for a class that cannot be what
                the table says it is.
        """
        found: type[Any] = _loaded(super().load, self.target, self.origin)
        is_class = isinstance(found, type)
        lacks = LACKS[self.kind](found) if is_class else [f"{self.target} is not a class"]
        _require_nothing(lacks, found, self.kind, self.name, self.origin)
        return found


def _loaded(load: Callable[[], Any], target: str, origin: str) -> Any:
    """What running a plug-in's code gives; raises PluginError, naming its line, if it breaks.

    Args:
        load: runs the code.
        target: a file's path, or `"package.module:Name"`.
        origin: the package or file, in words.
    """
    try:
        with no_exit():
            return load()
    except Exception as error:
        place = _place(target, error)
        at = f"{target}, {place}" if place and place != target else target
        raise PluginError(
            f"{origin} has a broken plug-in ({at}): {type(error).__name__}: {message_of(error)}. "
            "Mend it or leave it out."
        ) from error


def _require_nothing(
    lacks: Iterable[str], found: object, kind: str, name: str, origin: str
) -> None:
    """Raises PluginError, which names all that is lacking, unless nothing is."""
    missing = "; ".join(lacks)
    if not missing:
        return
    defined = ""
    if isinstance(found, type):
        try:
            line = inspect.getsourcelines(found)[1]
            defined = f" ({inspect.getfile(found)} line {line})"
        except (OSError, TypeError):  # a file of another machine's
            defined = f" ({found.__qualname__})"
    raise PluginError(
        f'{origin} adds the {kind} "{name}"{defined}, which cannot be used: {missing}. '
        f"Mend it or leave it out; `python -m bench check {name}` tries it."
    )


def _place(target: str, error: BaseException) -> str:
    """The plug-in's own line that an error comes from, else its file; "" if there is none."""
    package = target.partition(":")[0].partition(".")[0]
    own = [root.resolve() for root in ([Path(target)] if os.sep in target else _roots(package))]
    cause: BaseException | None = error
    while cause is not None:
        lines = [
            (frame.filename, frame.lineno) for frame in traceback.extract_tb(cause.__traceback__)
        ]
        if isinstance(cause, SyntaxError):
            lines.append((cause.filename or "", cause.lineno))
        for file, line in reversed(lines):
            if any(Path(file).resolve().is_relative_to(root) for root in own):
                return f"{file} line {line}"
        cause = cause.__cause__
    module = sys.modules.get(target.partition(":")[0])
    return str(getattr(module, "__file__", None) or "")


def _roots(package: str) -> list[Path]:
    """The folders of an installed package, or the file of a module; none where it is not there."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    folders = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return [Path(folder) for folder in folders]


def install(files: Iterable[str | Path] = ()) -> None:
    """Adds the plug-ins of all installed packages and of `files` to the tables of names.

    What is there already from the same package or file is left, or replaced if it has changed.

    Raises:
        PluginError: for a name that is taken, and for a plug-in that cannot be loaded.
    """
    for kind in TABLES:
        for point in entry_points(group=f"{GROUP}.{kind.lower()}"):
            origin = _origin(point)
            _add(kind, point.name, _entry_of_package(kind, point, origin), origin)
    for file in files:
        path = Path(file).expanduser()
        origin = f'the file "{path.resolve()}"'  # the same by whichever path it is named
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
            entry = _entry_of_file(kind, key, value, module, origin, f"file {digest}")
            _add(kind, key, entry, origin)


def _run(source: bytes, path: str, name: str, origin: str) -> ModuleType:
    """The module of a file's source, once it has run."""
    spec = importlib.util.spec_from_loader(name, loader=None, origin=path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = path
    sys.modules[name] = module  # dataclasses look their module up
    try:
        _loaded(lambda: exec(compile(source, path, "exec"), vars(module)), path, origin)
    except PluginError:
        del sys.modules[name]
        raise
    return module


def _entry_of_file(
    kind: str, key: str, value: object, module: ModuleType, origin: str, version: str
) -> Entry | ModelEntry:
    if kind == "MODELS":
        return replace(_model(value, key, origin), version=version)
    if not isinstance(value, type):
        raise PluginError(f'{origin}: {kind}["{key}"] has to be a class, not {value!r}.')
    summary = (value.__doc__ or "").strip().partition("\n")[0] or "(it has no docstring)"
    place = f"{kind}.{key}"  # two classes of a file may have one name
    setattr(module, place, value)
    target = f"{module.__name__}:{place}"
    return PluginEntry(target, summary, origin, version, KIND_OF[kind], key)


def _entry_of_package(kind: str, point: EntryPoint, origin: str) -> Entry | ModelEntry:
    package = point.module.partition(".")[0]
    if kind != "MODELS":
        version = f"{origin}, files {package_digest(package)}"
        return PluginEntry(
            point.value, f"from {origin}", origin, version, KIND_OF[kind], point.name
        )
    entry = _model(_loaded(point.load, point.value, origin), point.name, origin)
    files = package_digest(package, without=entry.folder)  # that has a digest of its own
    return replace(entry, version=f"{origin}, files {files}")


def package_digest(name: str, without: Path | None = None) -> str:
    """The sha256 over all files of an installed package: its version may stay when it is changed.

    Those in the folder `without` are left out.

    "" where there is no such package: what is wrong is said when the plug-in is loaded. Of what a
    plug-in imports from other packages nothing is known.
    """
    roots = _roots(name)
    if not roots:
        return ""
    files = [(file, file.relative_to(root)) for root in roots for file in root.rglob("*")]
    files += [(root, Path(name)) for root in roots]  # of a module that is one file
    digest = hashlib.sha256()
    for file, place in sorted(files, key=lambda pair: pair[1]):
        left_out = "__pycache__" in place.parts or (without and file.is_relative_to(without))
        if file.is_file() and not left_out:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{place.as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _model(value: Any, name: str, origin: str) -> ModelEntry:
    _require_nothing(lacks_of_model(value), value, "model", name, origin)
    entry: ModelEntry = replace(value, origin=origin)
    return entry


def _origin(point: EntryPoint) -> str:
    dist = point.dist
    return f"the package {dist.name} {dist.version}" if dist else "a package without a name"


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
    model, plugins = record.settings.get("model"), record.settings.get("plugins")
    code = [*plugins] if isinstance(plugins, list) else []  # a record may be anybody's
    code += [model.get("plugin")] if isinstance(model, dict) else []
    for one in code:
        package, found, _ = str(one).partition(", files ")
        name = package.rpartition(" ")[0]
        if found and not any(origin.startswith(f"{name} ") for origin in _added_by.values()):
            raise PluginError(
                f"{record.id} was computed with {package}, of which nothing is installed here."
            )
