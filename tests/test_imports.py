"""Imports run one way only, and what does not compute stays light."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tasks", "methods", "bench", "reports")
ALLOWED = {
    "tasks": {"tasks"},
    "methods": {"tasks", "methods"},
    "bench": {"tasks", "methods", "bench"},
    "reports": {"tasks", "bench", "reports"},
}
READ_BY_REPORTS = {"bench.store", "bench.agreement"}
ABOVE = ("bench.cli", "bench.notebook", "bench.own_prompts")
"""What stands above all packages: the command line, and what notebooks use."""
WITHIN_BENCH = ("store", "models", "matrix", "evaluation", "agreement", "execution")
"""The packages of `bench`: each may import those before it."""
HEAVY = (
    *("torch", "transformers", "transformer_lens"),
    *("matplotlib", "pandas", "pyarrow", "scipy", "jinja2"),
)
LIGHT = (
    *(*PACKAGES, "bench.cli.app", "bench.models.load", "bench.agreement.table"),
    *("bench.store.results", "reports.figures", "reports.tables"),
)


def modules(folder: str) -> Iterator[tuple[str, Path]]:
    for file in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), file


def imports(folder: str) -> list[tuple[str, str]]:
    """Every module below a folder, and a module of ours that it imports."""
    found = []
    for name, file in modules(folder):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found += [(name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: a relative import"
                found.append((name, str(node.module)))
    ours = [(name, one) for name, one in found if one.split(".")[0] in PACKAGES]
    assert ours, "the rule is checked on nothing"
    return ours


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    for name, imported in imports(package):
        if not name.startswith(ABOVE):
            assert imported.split(".")[0] in ALLOWED[package], f"{name} imports {imported}"


def test_reports_read_stored_results_only() -> None:
    used = {imported for _, imported in imports("reports") if imported.startswith("bench")}
    assert {".".join(name.split(".")[:2]) for name in used} <= READ_BY_REPORTS


def test_the_packages_of_bench_stand_on_each_other_one_way() -> None:
    for at, package in enumerate(WITHIN_BENCH):
        above = {f"bench.{name}" for name in (*WITHIN_BENCH[at + 1 :], "cli", "conformance")}
        for name, imported in imports(f"bench/{package}"):
            assert ".".join(imported.split(".")[:2]) not in above, f"{name} imports {imported}"


ONE_BY_ONE = """
import importlib, sys
light, heavy = (names.split() for names in sys.argv[1:])
for name in light:
    importlib.import_module(name)
    assert not {*heavy} & {*sys.modules}, (name, {*heavy} & {*sys.modules})
"""


def python(*arguments: str, code: int = 0) -> str:
    """What an interpreter says that ends with this exit code."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_importing_is_light() -> None:
    """One after the other, so that what brings something heavy is named."""
    python("-c", ONE_BY_ONE, " ".join(LIGHT), " ".join(HEAVY))


def test_reports_need_no_torch() -> None:
    names = " ".join(name for name, _ in modules("reports"))
    python("-c", ONE_BY_ONE, names, "torch transformers transformer_lens")


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"]])
def test_help_and_list_answer_at_once(arguments: list[str]) -> None:
    """The promise is one second on a quiet machine; the processor's time is what it is on any."""
    before = os.times()
    python("-m", "bench", *arguments)
    after = os.times()
    taken = (after.children_user, after.children_system)
    assert sum(taken) - before.children_user - before.children_system < 1.5


def test_a_foreign_package_of_the_same_name_is_named_and_plain_folders_do_no_harm(
    tmp_path: Path,
) -> None:
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bench, tasks"
    for name in ("tasks", "methods", "reports"):
        (tmp_path / name).mkdir()
    python("-c", code)
    for name in ("tasks", "methods", "reports"):
        (tmp_path / name / "__init__.py").touch()
        last = python("-c", code, code=1).strip().splitlines()[-1]
        assert last.startswith("ImportError: attribution-bench in ")
        assert f"its own package '{name}'" in last
        assert str(tmp_path) in last
        (tmp_path / name / "__init__.py").unlink()
