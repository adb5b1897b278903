"""What was checked, and how it went: one line for each check."""

import contextlib
import threading

from .waiting import Late, wait_until

LOG_LINES = 80
_lock = threading.Lock()


def say(*lines):
    with _lock:
        print(*lines, sep="\n", flush=True)


class Report:
    """The checks of one scenario."""

    def __init__(self, scenario):
        self._scenario = scenario
        self.passed = 0
        self.failed = 0

    def check(self, sentence, holds, expected, got):
        """Counts and tells whether the sentence holds."""
        if holds:
            self.passed += 1
            say(f"ok      {self._scenario}: {sentence}")
        else:
            self.failed += 1
            say(f"FAILED  {self._scenario}: {sentence}", f"        expected: {expected}", f"        got:      {got}")
        return bool(holds)

    def equal(self, sentence, got, expected):
        return self.check(sentence, got == expected, expected, got)

    def contains(self, sentence, text, *parts):
        """One line of the text has all the parts."""
        found = any(all(part in line for part in parts) for line in text.splitlines())
        return self.check(sentence, found, f"a line with {', '.join(map(repr, parts))}", text.strip() or "nothing")

    def soon(self, sentence, get, expected, timeout=5):
        """`get` returns what is expected, at once or within a few seconds."""
        with contextlib.suppress(Late):
            wait_until(sentence, lambda: get() == expected, timeout)
        return self.equal(sentence, get(), expected)

    def fail(self, sentence, error):
        return self.check(sentence, False, "every step done", f"{type(error).__name__}: {error}")

    def show(self, *files):
        """The ends of log files, for whoever reads the failure."""
        for file in files:
            if not file.is_file():
                continue
            lines = file.read_text(errors="replace").splitlines()
            cut = [f"… {len(lines) - LOG_LINES} lines before"] if len(lines) > LOG_LINES else []
            say(f"  ==== {self._scenario}: {file.name}", *(f"  | {line}" for line in cut + lines[-LOG_LINES:]))
