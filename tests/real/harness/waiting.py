"""Waiting, always with an end: a deadline, or the end of the whole run."""

import threading
import time

# Set when the run is told to end: every wait then raises.
STOPPED = threading.Event()

POLL = 0.05


class Late(Exception):
    """What was waited for did not happen in time."""


def wait_until(what, condition, timeout):
    """Returns what `condition` returns as soon as that is true; raises `Late` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if STOPPED.wait(POLL):
            raise SystemExit("stopped")
        if time.monotonic() > deadline:
            raise Late(f"{what}: not within {timeout} s")
