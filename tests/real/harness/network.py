"""A network namespace with one TAP device: the server is on this side of it, the virtual machine on the other."""

import subprocess

SERVER_ADDRESS = "192.0.2.1"
TAP = "tap0"

# The namespace lives as long as this shell, and the shell until its standard input ends: at the latest when the
# harness dies, however it dies. So there is no name to clean up.
KEEPER = f"""
ip link set lo up
ip tuntap add dev {TAP} mode tap
ip address add {SERVER_ADDRESS}/24 dev {TAP}
ip link set {TAP} up
echo ready
exec cat
"""


class Network:
    """Nothing routes out of it."""

    def __init__(self):
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-euc", KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self._keeper.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("no network namespace with a TAP device: is this root, and is there a /dev/net/tun?")

    def inside(self, *command):
        """The command, to be run inside; killed when the thread that starts it ends."""
        namespace = f"--net=/proc/{self._keeper.pid}/ns/net"
        return ["nsenter", namespace, "setpriv", "--pdeathsig", "KILL", *map(str, command)]

    def start(self, *command, **options):
        return subprocess.Popen(self.inside(*command), **options)

    def run(self, *command, **options):
        return subprocess.run(self.inside(*command), text=True, capture_output=True, timeout=30, check=False, **options)

    def close(self):
        self._keeper.stdin.close()
        self._keeper.stdout.close()
        self._keeper.wait()
