"""Debian's sstpc with pppd, in the machine: one call of it, from the dial to its end."""

import itertools

from .network import SERVER_ADDRESS
from .pki import SERVER_NAME
from .server import PASSWORDS
from .waiting import Late, wait_until

# What pppd must refuse, so that only this method is left.
METHODS = {
    "mschapv2": "refuse-eap refuse-pap refuse-chap refuse-mschap",
    "eap-mschapv2": "refuse-pap refuse-chap refuse-mschap refuse-mschap-v2",
    "pap": "refuse-eap refuse-chap refuse-mschap refuse-mschap-v2",
}

DIAL = """
echo "{address} {name}" >>/etc/hosts
echo '{user} * "{password}" *' >/etc/ppp/chap-secrets
cp /etc/ppp/chap-secrets /etc/ppp/pap-secrets
exec sstpc --log-level 4 --log-stderr --ipparam {call} --ca-cert /run/job/{ca} {flags} {name}{port} \\
    noauth noipdefault usepeerdns nodefaultroute nobsdcomp nodeflate \\
    debug logfile /run/job/pppd-{call}.log ipparam {call} user {user} {refusals} {options}
"""


class Client:
    """Dials at once."""

    # Each call has its own name for hooks, sockets and logs.
    _calls = itertools.count(1)

    def __init__(self, machine, method, user="alice", password=None, ca="root.pem", port=443, options=""):
        self._machine = machine
        self.call = f"call{next(self._calls)}"
        self.job = machine.start(
            DIAL.format(
                address=SERVER_ADDRESS, name=SERVER_NAME, call=self.call, ca=ca, user=user,
                password=PASSWORDS[user] if password is None else password, refusals=METHODS[method], options=options,
                # sstpc writes the port into the server name, which then is not a host name.
                flags="--tls-ext" if port == 443 else "", port="" if port == 443 else f":{port}",
            )  # fmt: skip
        )

    def _up(self):
        return self._machine.folder / f"up-{self.call}"

    def wait_up(self, timeout=40):
        """The interface, our address, the peer's and the name server, as pppd tells its hook; None if it ended."""
        wait_until("pppd is up, or sstpc has ended", lambda: self._up().exists() or self.job.is_done(), timeout)
        return self._up().read_text().split() if self._up().exists() else None

    def route(self):
        """The route which a real profile brings: all virtual addresses through the tunnel."""
        return self._machine.run("ip route add 198.18.7.0/24 dev ppp0")

    def was_up(self):
        return self._up().exists()

    def hang_up(self):
        """Ends sstpc as its user does, and waits for it."""
        self.job.signal("TERM")
        return self.wait_ended(20)

    def wait_ended(self, timeout):
        """How sstpc ended, or None if it still runs."""
        try:
            return self.job.wait(timeout)
        except Late:
            return None

    def log(self):
        """What sstpc and pppd have told so far."""
        ppp = self._machine.folder / f"pppd-{self.call}.log"
        return self.job.errors() + (ppp.read_text(errors="replace") if ppp.exists() else "")
