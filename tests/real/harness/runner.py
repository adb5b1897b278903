"""Performs scenarios, some at a time, and counts."""

import concurrent.futures
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import binary, pki, waiting
from .report import Report, say
from .stage import Stage

AT_ONCE = 2


def _stop(number, _frame):
    waiting.STOPPED.set()
    raise SystemExit(128 + number)


def _perform(name, scenario, folder, server, authorities, options):
    """One scenario, from nothing to nothing."""
    report = Report(name)
    begin = time.monotonic()
    try:
        with Stage(folder / name, server, authorities, report, **options) as stage:
            try:
                scenario(stage)
            except Exception as error:
                report.fail("runs to its end", error)
            if report.failed:
                report.show(*stage.logs())
    except Exception as error:
        report.fail("has a stage", error)
    say(f"        {name}: {time.monotonic() - begin:.0f} s")
    return report


def run(scenarios, **options):
    """The exit status of the whole: 0 if all passed. `options` are those of the stage."""
    if os.geteuid() != 0:
        print("this needs root: network namespaces and TAP devices", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    built = binary.find()
    with tempfile.TemporaryDirectory(prefix="wicketgate-real-") as folder:
        folder = Path(folder)
        # A server that is an ordinary user must get to its own folder. What is private has its own mode.
        folder.chmod(0o711)
        # A copy: nobody's build replaces it during the run, and every user may execute it.
        server = Path(shutil.copy(built, folder))
        authorities = pki.make(folder / "pki")
        pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        try:
            jobs = [
                pool.submit(_perform, name, scenario, folder, server, authorities, options)
                for name, scenario in scenarios.items()
            ]
            reports = [job.result() for job in jobs]
        finally:
            pool.shutdown(cancel_futures=True)
    passed = sum(report.passed for report in reports)
    failed = sum(report.failed for report in reports)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
