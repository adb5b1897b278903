"""One scenario's stage: its folder, network, server and machine, and the end of all of them."""

import contextlib

from .client import Client
from .machine import Machine
from .network import Network
from .server import Server


class Stage:
    def __init__(self, folder, binary, pki, report, listen=None):
        self.report = report
        self.folder = folder
        self._open = contextlib.ExitStack()
        try:
            folder.mkdir()
            self.network = Network()
            self._open.callback(self.network.close)
            # The machine boots while the server is made.
            self.machine = Machine(self.network, folder)
            self._open.callback(self.machine.close)
            for authority in ("root.pem", "foreign.pem"):
                self.machine.put(authority, (pki / authority).read_text())
            options = {} if listen is None else {"listen": listen}
            self.server = Server(self.network, binary, folder / "server", pki, **options)
            self._open.callback(self.server.close)
        except BaseException:
            self._open.close()
            raise

    def open(self, serve=True):
        if serve:
            self.server.start()
        self.machine.wait_ready()

    def dial(self, method, **options):
        return Client(self.machine, method, **options)

    def connect(self, method, **options):
        """Dials, and is up with its route; raises if that fails."""
        client = self.dial(method, **options)
        if client.wait_up() is None:
            raise RuntimeError(f"sstpc did not connect with {method}: {client.wait_ended(1)}")
        client.route()
        return client

    def logs(self):
        jobs = self.machine.folder
        by_number = sorted(jobs.glob("*.err"), key=lambda file: int(file.stem))
        return [
            self.folder / "console.log",
            self.server.log_file,
            self.server.folder / "backend.log",
            *sorted(jobs.glob("pppd-*.log")),
            *(file for file in by_number if file.stat().st_size > 0),
        ]

    def close(self):
        self._open.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
