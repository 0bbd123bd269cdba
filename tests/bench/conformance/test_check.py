"""`check` on tasks and models: the suite's own pass, and what is wrong is said in words."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from bench import plugins
from bench.cli.plugins import _suites
from bench.conformance import models as of_models
from bench.conformance import tasks as of_tasks
from bench.conformance.check import needs, run_checks
from bench.models import load as models
from bench.models.load import ModelEntry
from bench.models.tiny import save_tiny
from tests.command import command
from tests.small import task_texts

Shown = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    plugins.uninstall()


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma3"])
def test_models_conform(architecture: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", architecture, task_texts())
    found = list(run_checks(lambda: of_models.Case(str(folder)), of_models.CHECKS))
    assert [(one.words, one.verdict) for one in found] == [
        (check.__doc__, "passed") for check in of_models.CHECKS
    ]


BAD_TASK = '''
import random
from dataclasses import dataclass
from tasks.task import PromptPair

@dataclass
class Bad:
    """Wrong in every way."""
    name = "another"

    def entities(self):
        return ["Ann", "Bob", "Cid", "Dan", "Ann"]

    def probe(self, split, entity):
        return PromptPair(f"I saw {entity} and", f"I saw {entity} and", " he", " he", "Ann")

    def candidates(self, split, entities, seed):
        while True:
            yield self.probe(split, random.choice(list(entities) or ["Ann"]))

TASKS = {"bad": Bad}
'''


def test_what_is_wrong_with_a_task_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setattr(of_tasks, "MAX_CANDIDATES", 1000)
    file = tmp_path / "bad.py"
    file.write_text(BAD_TASK)
    assert command(monkeypatch, "check", "bad", "--plugin", str(file)) == 1
    shown = capsys.readouterr().out
    for words in (
        'the class has to say name = "bad"',
        "has to be frozen",
        "entities() names one twice",
        "has to be about that entity",
        "again before all others",
        "two calls with one seed differ",
        "candidates() does not come to an end",
    ):
        assert words in shown, words
    file.write_text(BAD_TASK.replace("def probe", "def prob"))
    assert command(monkeypatch, "check", "bad", "--plugin", str(file)) == 1
    assert "it has no method probe()" in capsys.readouterr().out


def test_what_is_wrong_with_a_model_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    """Of a plug-in; by its own name, with weights that are no numbers."""
    folder = save_tiny(tmp_path / "model", "llama", task_texts())
    code = (
        "from pathlib import Path\nfrom bench.models.load import ModelEntry\n"
        f"MODELS = {{'theirs': ModelEntry('a small one', None, None, Path({str(folder)!r}))}}\n"
    )
    (tmp_path / "theirs.py").write_text(code)
    arguments = ["check", "theirs", "--plugin", str(tmp_path / "theirs.py")]
    assert command(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count("passed  ") == len(of_models.CHECKS)
    assert "theirs: all checks passed." in shown
    monkeypatch.chdir(tmp_path)
    assert _suites("model") == _suites("./model")  # a folder, as every command takes it

    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    model.save_pretrained(folder)
    assert command(monkeypatch, *arguments) == 1
    assert "NaN or infinite logits" in capsys.readouterr().out
    plugins.uninstall()
    monkeypatch.setitem(models.MODELS, "long", ModelEntry("x" * 91, None, None, folder))
    (found,) = run_checks(lambda: of_models.Case("long"), of_models.CHECKS[:1])
    assert found.problem == "that line has 90 characters at most"


def test_a_check_that_ends_the_process_has_failed() -> None:
    def leaves(case: str) -> None:
        """It stays."""
        raise SystemExit(0)

    (found,) = run_checks(lambda: "a case", [leaves])
    assert found.words == "It stays."
    assert "SystemExit(0)" in found.problem
    assert f"({__file__} line " in found.problem


def test_a_check_is_skipped_where_what_it_needs_has_failed() -> None:
    def first(case: str) -> None:
        """one"""
        raise ValueError from KeyError()  # it is said where the first was raised

    @needs(first)
    def second(case: str) -> None:
        """two"""

    @needs(second)
    def third(case: str) -> None:
        """three"""

    def alone(case: str) -> None:
        """four"""

    found = list(run_checks(lambda: "a case", [first, second, third, alone]))
    assert [outcome.verdict for outcome in found] == ["FAILED", "skipped", "skipped", "passed"]
    assert found[0].problem.startswith("it raises ValueError without a message (")
    assert found[1].problem == found[2].problem == 'nobody can tell, as this failed: "one"'
