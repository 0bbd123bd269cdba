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


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), file


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    seen = 0
    for name, file in modules(package):
        if name.startswith(ABOVE):
            continue
        for imported in imports(file):
            if imported.split(".")[0] in PACKAGES:
                seen += 1
                assert imported.split(".")[0] in ALLOWED[package], f"{name} imports {imported}"
    assert seen, "the rule was checked on nothing"


def test_reports_read_stored_results_only() -> None:
    used = {i for _, file in modules("reports") for i in imports(file) if i.startswith("bench")}
    assert used
    assert {".".join(name.split(".")[:2]) for name in used} <= READ_BY_REPORTS


def test_the_packages_of_bench_stand_on_each_other_one_way() -> None:
    seen = 0
    for at, package in enumerate(WITHIN_BENCH):
        above = {*WITHIN_BENCH[at + 1 :], "cli", "conformance"}
        for name, file in modules(f"bench/{package}"):
            for imported in imports(file):
                if imported.startswith("bench."):
                    seen += 1
                    assert imported.split(".")[1] not in above, f"{name} imports {imported}"
    assert seen, "the rule was checked on nothing"


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.splitlines()[-1].split())


ONE_BY_ONE = """
import importlib, sys
light, heavy = (names.split() for names in sys.argv[1:])
for name in light:
    importlib.import_module(name)
    assert not {*heavy} & {*sys.modules}, (name, {*heavy} & {*sys.modules})
"""


def test_importing_is_light() -> None:
    """One after the other, so that what brings something heavy is named."""
    arguments = [sys.executable, "-c", ONE_BY_ONE, " ".join(LIGHT), " ".join(HEAVY)]
    run = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_reports_need_no_torch() -> None:
    names = ", ".join(name for name, _ in modules("reports"))
    assert not loaded_by(f"import {names}") & {"torch", "transformers", "transformer_lens"}


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"]])
def test_help_and_list_answer_at_once(arguments: list[str]) -> None:
    """The promise is one second on a quiet machine; the processor's time is what it is on any."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, check=True
    )
    after = os.times()
    taken = (after.children_user, after.children_system)
    assert sum(taken) - before.children_user - before.children_system < 1.5


@pytest.mark.parametrize("name", ["tasks", "methods", "reports"])
def test_a_foreign_package_of_the_same_name_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bench"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: attribution-bench in ")
    assert f"its own package '{name}'" in last
    assert str(tmp_path) in last


def test_plain_folders_of_these_names_do_no_harm(tmp_path: Path) -> None:
    for name in ("tasks", "methods", "reports"):
        (tmp_path / name).mkdir()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bench, tasks"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
