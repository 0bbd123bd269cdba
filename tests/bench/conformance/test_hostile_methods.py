"""`check` on methods that are wrong: each is blamed for what it does, once, in plain words."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import plugins
from bench.conformance import method_case
from bench.conformance.check import Outcome, run_checks
from bench.conformance.method_case import Case
from bench.conformance.methods import CHECKS
from tests.command import command

START = """
import random
from dataclasses import dataclass
import numpy as np
import torch
from methods.grad_scalar import GradScalar
from methods.method import Attribution, Method
"""
METHOD = '''
@dataclass(frozen=True)
class M{name}(GradScalar):
    """It does one thing wrong."""
    def fit(self, subject, prompts, grid, setting):
        bridge, model = subject.bridge, subject.bridge.original_model
        {before}
        found = super().fit(subject, prompts, grid, setting)
        {after}
        return found
'''
LEFT = "the model, its hooks and weights, and torch's state are left as found"
FITS = "it gives an attribution, on six architectures"
SCORES = "scores are finite, of the grid's shape, and not all 0, on six architectures"
SEED = "the same seed gives the same scores, and the global random state has no part in it"

BLAMED = {
    # name: what it does before and after its fit, the one check that fails, and in which words
    "zeroes_weight": ("", "list(model.parameters())[-1].zero_()", LEFT, "weights (ln_final.bias)"),
    "trains": ("model.train()", "", LEFT, "train mode ("),
    "hook_once": ("hasattr(bridge, 'mine') or bridge.blocks[0].hook_mlp_out.add_hook("
                  "lambda h, hook: 1.5 * h); object.__setattr__(bridge, 'mine', 1)", "",
                  LEFT, "hooks (blocks.0.mlp.hook_out)"),
    "grad_off": ("", "torch.set_grad_enabled(False)", LEFT, "grad mode: False instead of True"),
    "draws": ("", "return Attribution(torch.randn(grid.shape))", SEED, "draw from a generator"),
    "seeds": ("torch.manual_seed(0)", "", SEED, "changes the global random state of torch"),
    "rolls": ("random.random()", "", SEED, "changes the global random state of Python"),
    "nan": ("", "return Attribution(torch.full(grid.shape, torch.nan))", SCORES, "NaN or infinity"),
    "numpy": ("return Attribution(np.ones(grid.shape, np.float32))", "", FITS,
              "on gpt2: scores have to be a torch.Tensor, and are a numpy.ndarray"),
    "nothing": ("return None", "", FITS, "methods.method.Attribution; it returns a NoneType"),
    "asserts": ("assert False", "", FITS, "AssertionError without a message ("),
    "leaves": ("raise SystemExit(3)", "", FITS, "on gpt2: it raised SystemExit(3)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A plug-in with all of them, and a floor that is right."""
    bodies = [
        METHOD.format(name=name, before=before or "pass", after=after or "pass")
        for name, (before, after, _, _) in BLAMED.items()
    ]
    floor = METHOD.format(
        name="constant", before="return Attribution(torch.ones(grid.shape))", after="pass"
    )
    table = ", ".join(f'"{name}": M{name}' for name in [*BLAMED, "constant"])
    found = tmp_path_factory.mktemp("hostile") / "theirs.py"
    found.write_text("".join([START, *bodies, floor, f"\nMETHODS = {{{table}}}\n"]))
    plugins.install([found])
    yield found
    plugins.uninstall()


@pytest.fixture(autouse=True)
def few_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method_case, "ARCHITECTURES", ("gpt2", "llama", "gemma3"))


def outcomes(name: str) -> list[Outcome]:
    return list(run_checks(lambda: Case(name), CHECKS))


@pytest.mark.parametrize("name", BLAMED)
def test_a_method_is_blamed_once_for_what_it_does(name: str, file: Path) -> None:
    _, _, words, problem = BLAMED[name]
    found = outcomes(name)
    (failed,) = [outcome for outcome in found if outcome.verdict == "FAILED"]
    assert failed.words == words
    assert problem in failed.problem
    skipped = [outcome.problem for outcome in found if outcome.verdict == "skipped"]
    assert set(skipped) == {f'nobody can tell, as this failed: "{words}"'}
    if "raise" in failed.problem:
        assert f"({file} line " in failed.problem


def test_constant_scores_are_a_floor_and_pass(file: Path) -> None:
    assert [outcome for outcome in outcomes("constant") if outcome.problem] == []


BAD = '''
import torch
from dataclasses import dataclass
from methods.method import Attribution, Method

@dataclass
class Bad(Method):
    """Wrong in several ways."""
    def fit(self, subject, prompts, grid, setting):
        prompts.tokens[0, 1] += 1
        return Attribution(torch.ones(grid.shape)[..., :1])

METHODS = {"bad": Bad}
'''


def test_the_command_says_each_problem_and_each_reason_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(BAD)
    assert command(monkeypatch, "check", "bad", "--plugin", str(file)) == 1
    shown = capsys.readouterr().out
    for words in (
        "the dataclass has to be frozen",
        "on gpt2: scores have shape (",
        "use grid.positions",
        "it changes prompts.tokens",
    ):
        assert shown.count(words) == 1
    assert shown.count("nobody can tell, as this failed:") == 1
    assert "bad: 4 checks failed, 4 could not be judged." in shown
    assert command(monkeypatch, "check", "badd", "--plugin", str(file)) == 2
    assert 'no method "badd"' in capsys.readouterr().err
