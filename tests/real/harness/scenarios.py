"""What the real client is put through. Each function is one stage: a server, a machine, and what is done with them."""

import json
import time

from .server import BILLING, BILLING_ADDRESS, ORDERS

GATEWAY = "198.18.7.1"
CLIENT = "198.18.7.2"
URL = f"http://{ORDERS}/v1/orders"
# Checked against our authority.
OVER_TLS = f"--cacert /run/job/root.pem https://{ORDERS}/v1/orders"

# Exit statuses of curl.
CURL_REFUSED = 7
CURL_TIMEOUT = 28


def curl(stage, arguments, seconds=10):
    """Status of curl, status of HTTP, content type, body."""
    told = r"-sS -w '\n%{http_code} %{content_type}\n'"
    result = stage.machine.run(f"curl {told} -m {seconds} {arguments}", timeout=seconds + 20)
    body, _, last = result.output.rstrip("\n").rpartition("\n")
    code, _, kind = last.partition(" ")
    return result, code, kind, body


def reads(stage, sentence, arguments):
    """The backend's answer comes through."""
    result, code, _, body = curl(stage, arguments)
    stage.report.check(sentence, code == "200" and '"backend": "orders"' in body, "200, the backend's answer", result)


def refused(stage, sentence, arguments, reason, owner, rule=None):
    """A refusal with everything a person needs to ask further, and the same in the audit."""
    result, code, kind, body = curl(stage, arguments)
    stage.report.equal(f"{sentence}: status and type", f"{code} {kind}", "403 application/problem+json")
    try:
        problem = json.loads(body)
    except ValueError:
        stage.report.check(f"{sentence}: JSON", False, "an object", result)
        return
    got = {key: problem.get(key) for key in ("reason", "owner", "rule")}
    stage.report.equal(f"{sentence}: reason, owner, rule", got, {"reason": reason, "owner": owner, "rule": rule})
    decision = problem.get("decision_id")
    records = [record for record in stage.server.audit() if record.get("decision_id") == decision]
    stage.report.check(
        f"{sentence}: the audit has the decision", decision and records, "a record with its id", f"{decision!r}"
    )


def dig(stage, name, kind="A"):
    """Status and answers, and all of the reply but its id, its time and the name that was asked."""
    result = stage.machine.run(f"dig @{GATEWAY} +time=3 +tries=1 {name} {kind}")
    status, answers, reply = "", [], []
    for line in result.output.splitlines():
        if "status:" in line:
            status = line.split("status:")[1].split(",")[0].strip()
            line = line.split(", id:")[0]
        elif line.startswith(";;") and ("time:" in line or "WHEN:" in line):
            continue
        elif line and not line.startswith(";"):
            answers.append(line.split()[4])
        reply.append(line.replace(name, "NAME"))
    return status, answers, reply


def in_services(address):
    octets = address.split(".")
    return octets[:3] == ["198", "18", "7"] and 128 <= int(octets[3]) <= 255


def hangs_up(stage, client):
    ended = client.hang_up()
    stage.report.check("sstpc ends when told", ended is not None, "its end", "it still runs")
    stage.report.soon("the server has no session left", stage.server.sessions, [])


def names(stage):
    report = stage.report
    status, answers, _ = dig(stage, ORDERS)
    seen = status == "NOERROR" and len(answers) == 1 and in_services(answers[0])
    report.check("the API's name has one address", seen, "one of 198.18.7.128/25", f"{status} {answers}")
    report.equal("its AAAA is NODATA", dig(stage, ORDERS, "AAAA")[:2], ("NOERROR", []))
    status, answers, hidden = dig(stage, BILLING)
    report.equal("a hidden name does not exist", (status, answers), ("NXDOMAIN", []))
    # As long as the hidden one, so that the replies are too.
    missing = dig(stage, "missing.api.corp.example")[2]
    report.equal("a hidden name and a missing one get the same reply", hidden, missing)
    report.equal("a foreign name is refused", dig(stage, "www.example.org")[0], "REFUSED")
    tcp = stage.machine.run(f"dig @{GATEWAY} +tcp +short +time=3 +tries=1 {ORDERS}").output.split()
    report.check("names over TCP", len(tcp) == 1 and in_services(tcp[0]), "the same address", tcp)


def doors(stage):
    """What is not an API: refused or silent."""
    report = stage.report
    others = [BILLING_ADDRESS, "198.18.7.128", "198.18.7.129", "198.18.7.254"]
    own = dig(stage, ORDERS)[1]
    asked = [f"{address}:{port}" for address in others if address not in own for port in (80, 443)]
    report.check("at least three of them are asked at two ports", own and len(asked) >= 6, "6", f"{own} {asked}")
    script = "\n".join(f"(s=0; curl -s -o /dev/null -m 3 http://{at}/ || s=$?; echo {at} $s) &" for at in asked)
    tried = dict(line.split() for line in stage.machine.run(f"{script}\nwait").output.splitlines())
    report.equal("addresses without a visible API are silent", tried, dict.fromkeys(asked, str(CURL_TIMEOUT)))
    port = stage.machine.run(f"curl -sS -m 5 http://{ORDERS}:8080/")
    report.equal("another port of the API's address is refused", port.status, CURL_REFUSED)
    world = stage.machine.run("ip route add 203.0.113.0/24 dev ppp0; curl -sS -m 5 http://203.0.113.7/")
    report.equal("the world is refused", world.status, CURL_REFUSED)


def mschapv2(stage):
    """A day's work with MS-CHAPv2: addresses, names, calls, refusals."""
    report = stage.report
    stage.open()
    client = stage.dial("mschapv2", options="lcp-echo-interval 2 lcp-echo-failure 2")
    report.equal("pppd is up", client.wait_up(), ["ppp0", CLIENT, GATEWAY, GATEWAY])
    client.route()
    shown = stage.machine.run("ip -oneline -4 address show dev ppp0")
    report.contains("the interface has our addresses", shown.output, f"inet {CLIENT} peer {GATEWAY}/32")
    listed = stage.server.sessions()
    report.check("one session is listed, alice's", len(listed) == 1 and "alice" in str(listed), "alice", listed)

    names(stage)
    ping = stage.machine.run(f"ping -c 2 -i 0.2 -W 2 {GATEWAY}")
    report.check("the gateway answers a ping", ping.status == 0, "2 answers", ping)

    reads(stage, "GET over http", URL)
    reads(stage, "GET over https, checked against our authority", OVER_TLS)
    for over, url in (("http", URL), ("https", OVER_TLS)):
        delete = f"-X DELETE {url}/42"
        refused(stage, f"DELETE over {over}", delete, "no-rule-for-subject", "orders-team@corp.example")
    sealed = f"{URL}/sealed/1"
    refused(stage, "what everybody is denied", sealed, "denied-by", "security@corp.example", "_org/sealed")
    backend = stage.server.backend_log()
    leaked = "DELETE" in backend or "sealed" in backend
    report.check("nothing refused came to the backend", not leaked, "what was allowed", backend)
    doors(stage)
    # Two unanswered ones, so four seconds of silence, would have made pppd hang up.
    report.equal("pppd's echo requests are answered", client.job.is_done(), False)
    hangs_up(stage, client)
    events = [(record["event"], record["user"]) for record in stage.server.audit() if "tunnel" in record["event"]]
    report.equal("the audit has the tunnel's life", events, [("tunnel-up", "alice"), ("tunnel-down", "alice")])


def eap(stage):
    """EAP-MSCHAPv2, and a person without any group."""
    report = stage.report
    stage.open()
    client = stage.dial("eap-mschapv2")
    report.equal("pppd is up", client.wait_up(), ["ppp0", CLIENT, GATEWAY, GATEWAY])
    report.contains("EAP it was", client.log(), "EAP")
    client.route()
    reads(stage, "GET over http", URL)
    reads(stage, "GET over https, checked against our authority", OVER_TLS)
    refused(stage, "DELETE over http", f"-X DELETE {URL}/42", "no-rule-for-subject", "orders-team@corp.example")
    report.check("the refused one did not come to the backend", "DELETE" not in stage.server.backend_log(), "no DELETE", "one")
    own = dig(stage, ORDERS)[1]
    hangs_up(stage, client)

    client = stage.connect("eap-mschapv2", user="bob")
    report.equal("who has no group sees no name", dig(stage, ORDERS)[:2], ("NXDOMAIN", []))
    silent = stage.machine.run(f"curl -sS -m 3 http://{own[0]}/v1/orders")
    report.equal("nor anything at the address", silent.status, CURL_TIMEOUT)
    hangs_up(stage, client)


def pap(stage):
    """PAP is refused as long as nobody enables it."""
    report = stage.report
    stage.open()
    client = stage.dial("pap")
    report.equal("not up", client.wait_up(), None)
    log = stage.server.log()
    report.contains("the log says what is wanted and what is offered", log, "client wants pap", "server offers")

    stage.server.terminate()
    stage.server.ended(20)
    stage.server.configure('methods = ["pap"]')
    stage.server.start()
    client = stage.dial("pap")
    report.equal("up once it is enabled", client.wait_up(), ["ppp0", CLIENT, GATEWAY, GATEWAY])
    client.route()
    reads(stage, "GET over http", URL)
    hangs_up(stage, client)


def wrong_password(stage):
    """A wrong password: the client learns it, the audit has it, nothing is up."""
    report = stage.report
    stage.open()
    client = stage.dial("mschapv2", password="not-hers")
    report.equal("not up", client.wait_up(), None)
    report.contains("pppd is told error 691", client.log(), "CHAP Failure", "E=691")
    ended = client.wait_ended(10)
    report.check("sstpc ends", ended is not None, "its end", "it still runs")
    refusals = [record for record in stage.server.audit() if record["event"] == "login-refused"]
    got = [(record["user"], record["method"], record["source"].split(":")[0]) for record in refusals]
    report.equal("the audit has the refusal", got, [("alice", "mschapv2", "192.0.2.2")])
    report.equal("no session", stage.server.sessions(), [])
    links = stage.machine.run("ip -oneline link show").output
    report.check("no interface", "ppp" not in links, "no ppp", links)
    report.check("no password in the log", "not-hers" not in stage.server.log(), "none", "it is there")


def refusals(stage):
    """The server's log lines about connections of the machine that did not become tunnels."""
    return [line for line in stage.server.log().splitlines() if "192.0.2.2" in line and "refused" in line]


def wrong_authority(stage):
    """Clients that trust another authority: sstpc, which judges after the HTTP response, and one that judges in TLS."""
    report = stage.report
    stage.open()
    client = stage.dial("mschapv2", ca="foreign.pem")
    ended = client.wait_ended(20)
    report.equal("sstpc ends with its status for that", ended and ended.status, 254)
    report.contains("sstpc says why", client.log(), "unable to get local issuer certificate")
    report.equal("not up", client.was_up(), False)
    report.soon("the server has one line about it", lambda: len(refusals(stage)), 1)
    report.contains("it names the cure", "\n".join(refusals(stage)), "cure", "certificate")

    stage.machine.run("curl -sS -m 10 --cacert /run/job/foreign.pem https://vpn.example.test/")
    report.soon("the server has one line about a TLS alert", lambda: len(refusals(stage)), 2)
    report.contains("of layer tls, with the cure", refusals(stage)[-1], 'layer="tls"', "cure", "certificate")
    report.equal("no session", stage.server.sessions(), [])


def kill(stage):
    """The operator ends a session while it downloads."""
    report = stage.report
    stage.open()
    client = stage.connect("mschapv2")
    download = stage.machine.start(f"curl -sS -o /dev/null -m 60 {URL}/export")
    # Long enough for the download to be in full flow.
    time.sleep(3)
    report.equal("the download is under way", download.is_done(), False)
    listed = stage.server.sessions()
    told = [(session["user"], session["method"], session["streams"]) for session in listed]
    report.equal("one session is listed, with its stream", told, [("alice", "mschapv2", 1)])
    killed = stage.server.command("session", "kill", str(listed[0]["id"]))
    report.check("session kill does it", killed.returncode == 0, "status 0", f"{killed.returncode} {killed.stderr}")
    # Without a reset that comes through the tunnel before its end, Linux would wait for minutes.
    if report.soon("the download ends at once", download.is_done, True, timeout=2):
        ended = download.wait(1)
        report.check("with an error", ended.status != 0, "a status of curl", ended)
    ended = client.wait_ended(10)
    report.check("sstpc ends", ended is not None, "its end", "it still runs")
    report.contains("it was told", client.log(), "DISCONNECT")
    report.soon("no session", stage.server.sessions, [])


def restart(stage):
    """The server ends: it lets calls finish, tells its clients, and serves them again when it is back."""
    report = stage.report
    stage.open()
    client = stage.connect("mschapv2")
    slow = stage.machine.start(f"curl -sS -m 20 {URL}/slow")
    time.sleep(1)
    stage.server.terminate()
    begin = time.monotonic()
    finished = slow.wait(30)
    report.check("a call under way finishes", "backend" in finished.output, "the backend's answer", finished)
    ended = client.wait_ended(15)
    report.check("sstpc ends", ended is not None, "its end", "it still runs")
    report.contains("it was told", client.log(), "DISCONNECT")
    report.equal("the server ends well", stage.server.ended(40), 0)
    report.check("within 15 s", time.monotonic() - begin < 15, "15 s", f"{time.monotonic() - begin:.1f} s")
    stage.server.start()
    client = stage.connect("mschapv2")
    reads(stage, "GET after", URL)
    hangs_up(stage, client)


def idle(stage):
    """Longer than SSTP's hello timer of a minute without a byte: echo requests of SSTP keep the tunnel."""
    report = stage.report
    stage.open()
    client = stage.connect("mschapv2", options="lcp-echo-interval 0")
    reads(stage, "GET before", URL)
    deadline = time.monotonic() + 75
    while time.monotonic() < deadline and not client.job.is_done():
        time.sleep(1)
    report.equal("sstpc still runs after 75 s", client.job.is_done(), False)
    report.contains("the server asked whether it is there", client.log(), "ECHO REQUEST")
    report.contains("and was answered", client.log(), "ECHO REPLY")
    reads(stage, "GET after", URL)
    hangs_up(stage, client)


# In the order of their start: the longest first, as two run at once.
ALL = {
    "idle": idle,
    "mschapv2": mschapv2,
    "eap": eap,
    "pap": pap,
    "kill": kill,
    "restart": restart,
    "wrong-password": wrong_password,
    "wrong-authority": wrong_authority,
}
