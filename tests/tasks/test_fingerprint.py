"""A task's fingerprint changes with what it asks, and with nothing else."""

from dataclasses import dataclass

import pytest

from tasks import ccc
from tasks.ccc import CCC
from tasks.fingerprint import fingerprint


def test_settings_and_templates_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {fingerprint(CCC()), fingerprint(CCC(template="paper"))}
    monkeypatch.setitem(ccc.TEMPLATES, "stem_alt", ccc.TEMPLATES["stem_alt"] + " now")
    seen.add(fingerprint(CCC()))
    assert len(seen) == 3


def test_one_entity_more_changes_it() -> None:
    @dataclass(frozen=True)
    class Fewer(CCC):
        def entities(self) -> tuple[str, ...]:
            return tuple(super().entities())[1:]

    assert fingerprint(Fewer()) != fingerprint(CCC())
