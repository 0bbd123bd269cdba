"""Time limits end what takes too long, once, in any thread, and nothing else."""

import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from bench.running.limits import CellTimeoutError, limited

ROOT = Path(__file__).parents[3]


def busy(seconds: float) -> int:
    """Works in small steps."""
    end, steps = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        steps += sum(range(10))
    return steps


def test_what_takes_too_long_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(CellTimeoutError, match=r"limit of 0.1 s.*--cell-timeout"):
        limited(partial(busy, 20), 0.1)
    assert time.monotonic() - start < 10


def test_what_is_done_in_time_is_left_alone() -> None:
    for limit in (None, 0.2, 1e300, float("inf")):
        assert limited(partial(busy, 0.01), limit)
    busy(0.3)  # no interruption comes afterwards


def stubborn() -> None:
    """Never lets an exception end it."""
    while True:
        with suppress(Exception):
            busy(20)


def test_a_method_that_swallows_exceptions_is_ended_too() -> None:
    with pytest.raises(CellTimeoutError):
        limited(stubborn, 0.1)


def test_another_error_within_the_limit_stays_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        limited(lambda: 1 / 0, 5)


def test_at_the_last_moment_it_is_either_ended_or_not() -> None:
    done, ended = 0, 0
    for _ in range(20):
        try:
            limited(partial(busy, 0.02), 0.02)
            done += 1
        except CellTimeoutError:
            ended += 1
    busy(0.05)  # what was sent too late would arrive here
    assert done + ended == 20
    with pytest.raises(CellTimeoutError):  # and the next limit is a whole one
        limited(partial(busy, 20), 0.02)


def test_a_limit_that_is_over_before_the_work_begins_is_the_same_error() -> None:
    for _ in range(200):
        with pytest.raises(CellTimeoutError):
            limited(partial(busy, 20), 1e-9)


def test_it_works_in_a_thread_that_is_not_the_main_one() -> None:
    caught = []

    def work() -> None:
        try:
            limited(partial(busy, 20), 0.1)
        except CellTimeoutError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(caught) == 1


def deaf(seconds: float) -> str:
    """Lets nothing at all end it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(BaseException):
            busy(0.2)
    return "done"


def deaf_and_broken() -> None:
    deaf(0.3)
    raise ZeroDivisionError


def test_a_method_that_keeps_the_interruption_to_itself_has_failed_all_the_same() -> None:
    for work in (partial(deaf, 0.3), deaf_and_broken):
        with pytest.raises(CellTimeoutError, match=r"limit of 0.1 s"):
            limited(work, 0.1)


def test_the_users_interrupt_goes_before_a_limit() -> None:
    def interrupted() -> None:
        deaf(0.3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        limited(interrupted, 0.1)


def test_a_tracer_goes_on_after_a_limit_that_was_ignored() -> None:
    """Coverage and debuggers trace; in a process of its own, since it may never end."""
    code = (
        "import sys, time\n"
        "from bench.running.limits import CellTimeoutError, limited\n"
        "def ignore():\n"
        "    end = time.monotonic() + 0.2\n"
        "    while time.monotonic() < end:\n"
        "        try:\n"
        "            time.sleep(0.01)\n"
        "        except BaseException:\n"
        "            pass\n"
        "def trace(*event):\n"
        "    return trace\n"
        "sys.settrace(trace)\n"
        "try:\n"
        "    limited(ignore, 0.05)\n"
        "except CellTimeoutError:\n"
        "    print('ended')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["ended"], done.stderr
