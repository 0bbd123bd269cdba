"""The command line in this process."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest

from bench.cli.app import main


def output_of(*arguments: object, code: int = 0) -> str:
    """What a command writes, which never acts in a terminal; it ends with this exit code."""
    text = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(text), redirect_stderr(text):
        patch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        patch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit) as stopped:
            main()
    shown = text.getvalue()
    assert int(stopped.value.code or 0) == code, shown
    assert not {"\x1b", "\x07"} & set(shown)
    assert code != 2 or "Traceback" not in shown
    return shown


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the command, of which pytest captures what it writes; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)
