"""What workers say, kept with the run: a file a worker, and its last lines for a failed cell."""

from __future__ import annotations

import re
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

LAST_LINES = 30
MAX_LINE = 2000
MAX_LINES = 100_000
"""Of a worker; what it says after that is not kept."""


class WorkerLogs:
    """Lines by worker; in memory until there is a directory for them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.directory: Path | None = None
        self.early: dict[str, list[str]] = {}
        self.last: dict[str, deque[str]] = {}
        self.count: dict[str, int] = {}

    def add(self, worker: str, text: str) -> None:
        """Keeps what a worker said, with the time, a line at a time."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.lock:
            for line in text.splitlines():
                stamped = f"{now} {line[:MAX_LINE]}"
                self.last.setdefault(worker, deque(maxlen=LAST_LINES)).append(stamped)
                self.count[worker] = self.count.get(worker, 0) + 1
                if self.count[worker] <= MAX_LINES:
                    self._write(worker, stamped)

    def _write(self, worker: str, line: str) -> None:
        if self.directory is None:
            self.early.setdefault(worker, []).append(line)
            return
        with (self.directory / f"{_as_file_name(worker)}.log").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def keep_in(self, directory: Path) -> None:
        """From here on lines are written to files in `directory`; those known so far go first."""
        with self.lock:
            directory.mkdir(parents=True, exist_ok=True)
            self.directory = directory
            early, self.early = self.early, {}
            for worker, lines in early.items():
                for line in lines:
                    self._write(worker, line)

    def tail(self, worker: str) -> str:
        """The last lines of a worker, for the log of a cell that failed with it."""
        with self.lock:
            lines = list(self.last.get(worker, ()))
        return "\n".join([f"The last lines of {worker}:", *lines]) if lines else ""


def _as_file_name(worker: str) -> str:
    """A worker may be called by its address: `tcp://10.0.0.1:4711` becomes `tcp-10.0.0.1-4711`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", worker).strip("-.") or "worker"
