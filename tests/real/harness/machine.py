"""The virtual machine: user-mode Linux on the host's own files, with PPP in its kernel. Its other half is `init`."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

from .network import TAP
from .waiting import wait_until

INIT = Path(__file__).resolve().parent.parent / "init"
MEMORY = 128 << 20
BOOT = 60
# No stage needs longer: then the machine is killed, and whatever waits for it fails.
LIFE = 180


class Result:
    """How a job ended."""

    def __init__(self, status, output, errors):
        self.status = status
        self.output = output
        self.errors = errors

    def __str__(self):
        return f"status {self.status}\n{self.output}{self.errors}".strip()


class Job:
    """A shell script that runs in the machine."""

    def __init__(self, machine, number):
        self._machine = machine
        self._path = machine.folder / str(number)
        self.number = number

    def _read(self, kind):
        return Path(f"{self._path}.{kind}").read_text(errors="replace")

    def is_done(self):
        if not self._machine.is_running():
            raise RuntimeError("the virtual machine ended")
        return Path(f"{self._path}.status").exists()

    def errors(self):
        """What it has written to standard error so far."""
        file = Path(f"{self._path}.err")
        return file.read_text(errors="replace") if file.exists() else ""

    def wait(self, timeout):
        wait_until(f"job {self.number} ends", self.is_done, timeout)
        return Result(int(self._read("status")), self._read("out"), self._read("err"))

    def signal(self, name):
        pid = wait_until("the job begins", lambda: self._begun() and self._read("pid").strip(), 5)
        self._machine.run(f"kill -{name} {pid}")

    def _begun(self):
        return Path(f"{self._path}.pid").exists()


class Machine:
    """Boots at once; `wait_ready` before the first job."""

    def __init__(self, network, folder):
        self.folder = folder / "jobs"
        self.folder.mkdir()
        self._console = folder / "console.log"
        self._jobs = 0
        # The machine's memory is a file in TMPDIR: in a container, /dev/shm may be too small for it.
        memory = Path("/dev/shm")
        if not memory.is_dir() or shutil.disk_usage(memory).free < 2 * MEMORY:
            memory = folder
        with self._console.open("wb") as console:
            self._process = network.start(
                "unshare", "--pid", "--fork", "--kill-child=KILL",
                "linux.uml", f"mem={MEMORY >> 20}M", "root=none", "rootfstype=hostfs", "rootflags=/", "ro",
                f"init={INIT}", f"JOB={self.folder}", f"uml_dir={folder}", "umid=machine",
                f"vec0:transport=tap,ifname={TAP},mac=02:00:00:00:00:02,depth=128,gro=1",
                "con=null", "con0=fd:0,fd:1", "selinux=0", "quiet",
                stdin=subprocess.PIPE, stdout=console, stderr=console, env=os.environ | {"TMPDIR": str(memory)},
            )  # fmt: skip
        self._life = threading.Timer(LIFE, self._process.kill)
        self._life.daemon = True
        self._life.start()

    def is_running(self):
        return self._process.poll() is None

    def wait_ready(self):
        wait_until("the virtual machine boots", self._is_ready, BOOT)

    def _is_ready(self):
        if not self.is_running():
            raise RuntimeError("the virtual machine did not boot: see console.log")
        return (self.folder / "ready").exists()

    def start(self, script):
        """Starts a shell script in the machine."""
        self._jobs += 1
        (self.folder / f"{self._jobs}.cmd").write_text(script + "\n")
        self._process.stdin.write(f"{self._jobs}\n".encode())
        self._process.stdin.flush()
        return Job(self, self._jobs)

    def run(self, script, timeout=30):
        """Runs a shell script in the machine to its end."""
        return self.start(script).wait(timeout)

    def put(self, name, text):
        """A file for the jobs; they run in its folder."""
        (self.folder / name).write_text(text)

    def close(self):
        self._life.cancel()
        # All processes of the machine are in a process namespace that ends with its first.
        if self._process.poll() is None:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()
