"""The server under test, with its configuration, its users, its policies and the backend behind it."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

from .network import SERVER_ADDRESS
from .waiting import wait_until

HERE = Path(__file__).resolve().parent.parent
ORDERS = "orders.api.corp.example"
BILLING = "billing.api.corp.example"
# Pinned, so that a client that may not see the host can still try its address.
BILLING_ADDRESS = "198.18.7.200"
BACKEND_PORT = 8081
ADMIN = "127.0.0.1:9901"

# Name, groups. What each may do is in policies/.
USERS = {"alice": "orders-dev", "bob": ""}
PASSWORDS = {"alice": "Correct-Horse-7", "bob": "Battery-Staple-9"}

CONFIGURATION = """
[listen]
address = "{listen}"

[tls]
certificate = "tls/server.pem"
key = "tls/server.key"

[tunnel]
{tunnel}

[network]
suffix = "api.corp.example"

[services]
ca = "tls/services-ca.pem"
ca_key = "tls/services-ca.key"

[policies]
directory = "policies"

[users]
file = "{state}/users.toml"
key = "{state}/users.key"

[audit]
file = "{state}/audit.jsonl"

[admin]
address = "{admin}"
socket = "{state}/admin.sock"
"""


class Server:
    """One server and its backend; may be started and stopped again and again."""

    def __init__(self, network, binary, folder, pki, listen=f"{SERVER_ADDRESS}:443"):
        self._network = network
        self._binary = binary
        self.folder = folder
        self.state = folder / "state"
        self.log_file = folder / "server.log"
        self.config = folder / "wicketgate.toml"
        self._listen = listen
        self._process = None
        self._backend = None
        # Prefixes the command that serves; the unprivileged stage takes everything away here.
        self.confinement = []

        self.state.mkdir(parents=True)
        shutil.copytree(pki, folder / "tls")
        shutil.copytree(HERE / "policies", folder / "policies")
        self.log_file.touch()
        self.configure()
        for name, groups in USERS.items():
            flags = ["--groups", groups] if groups else []
            added = self.command("user", "add", name, *flags, input=PASSWORDS[name] + "\n")
            if added.returncode != 0:
                raise RuntimeError(f"wicketgate user add {name}: {added.stdout}{added.stderr}")

    def configure(self, tunnel=""):
        """Writes the configuration; `tunnel` are lines of its section [tunnel]."""
        self.config.write_text(
            CONFIGURATION.format(listen=self._listen, tunnel=tunnel, state=self.state, admin=ADMIN)
        )

    def command(self, *arguments, **options):
        """Runs the binary as an operator does, with our configuration."""
        return subprocess.run(
            [self._binary, *arguments, "--config", self.config],
            text=True, capture_output=True, timeout=30, check=False, cwd=self.folder, **options,
        )  # fmt: skip

    def start(self):
        """Serves, once this returns."""
        if self._backend is None:
            self._backend = self._start_backend()
        with self.log_file.open("ab") as log:
            self._process = self._network.start(
                *self.confinement, self._binary, "serve", "--config", self.config,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        wait_until("the server is ready", self._is_ready, 20)

    def _is_ready(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"wicketgate serve ended with status {self._process.returncode}")
        return self._network.run("curl", "-sf", "-o", "/dev/null", f"http://{ADMIN}/readyz").returncode == 0

    def _start_backend(self):
        with (self.folder / "backend.log").open("ab") as log:
            return self._network.start(
                HERE / "backend", str(BACKEND_PORT), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def terminate(self):
        """Tells the server to end (SIGTERM), without waiting."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self, timeout):
        """The exit status of the server, once it has ended."""
        wait_until("the server ends", lambda: self._process.poll() is not None, timeout)
        return self._process.returncode

    @property
    def pid(self):
        return self._process.pid

    def log(self):
        return self.log_file.read_text(errors="replace")

    def backend_log(self):
        return (self.folder / "backend.log").read_text(errors="replace")

    def audit(self):
        """The audit records, oldest first."""
        file = self.state / "audit.jsonl"
        if self._process is not None and self._process.poll() is None:
            # As the server sees it: it may have file systems of its own.
            file = Path(f"/proc/{self.pid}/root{file}")
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines()]

    def sessions(self):
        """What `wicketgate session list` tells, one value for each session."""
        listed = self.command("session", "list", "--format", "json")
        if listed.returncode != 0:
            raise RuntimeError(f"wicketgate session list: {listed.stdout}{listed.stderr}")
        told = json.loads(listed.stdout)
        return told["sessions"] if isinstance(told, dict) else told

    def close(self):
        for process in (self._process, self._backend):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
