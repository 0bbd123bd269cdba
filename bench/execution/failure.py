"""Failure as a result: what a failed cell's record says, whatever exception it was."""

from __future__ import annotations

import traceback
from typing import Any

from bench.evaluation.compute import identity
from bench.matrix.cells import PlannedCell
from bench.store.records import CellError, CellRecord
from tasks.errors import message_of


class CellTimeoutError(RuntimeError):
    """A cell took longer than `--cell-timeout` allows."""

    flag = "--cell-timeout"


class LoadTimeoutError(RuntimeError):
    """Loading a model, or preparing a task for it, took longer than `--load-timeout` allows."""

    flag = "--load-timeout"


def failure(
    cell: PlannedCell, error: BaseException, provenance: dict[str, Any], *more: str
) -> CellRecord:
    """A failed cell: a result with its reason.

    Args:
        cell: what was to be computed.
        error: why it could not.
        provenance: where that was.
        more: texts that the log has behind the exception's own.
    """
    log = "\n".join(text for text in (log_of(error), *more) if text)
    return CellRecord(
        **identity(cell),
        status="failed",
        error=CellError(
            kind=_writable(type(error).__name__), message=message_of(error), log=_writable(log)
        ),
        provenance=provenance,
    )


def log_of(error: BaseException) -> str:
    """An exception with its trace and what led to it."""
    return "".join(traceback.format_exception(error)).rstrip()


def kept(error: Exception) -> Exception:
    """An error to be raised again and again: where it came from is a note, not a growing trace.

    A trace would also keep everything alive that was in memory when it happened.
    """
    error.add_note(log_of(error))
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _writable(text: str) -> str:
    """Text that can be written as UTF-8: a path may hold bytes that cannot."""
    return text.encode("utf-8", "replace").decode()
