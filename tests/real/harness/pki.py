"""Certificates made with openssl, for one run: the server's authority, one for the hosts inside, and a foreign one."""

import subprocess

SERVER_NAME = "vpn.example.test"

AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
SERVER = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
    f"subjectAltName=DNS:{SERVER_NAME}\n"
)


def _openssl(folder, *arguments):
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, text=True, capture_output=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}: {done.stderr}")


def _issue(folder, name, subject, extensions, issuer=None):
    """NAME.pem and NAME.key, signed by ISSUER.key, or by itself."""
    (folder / f"{name}.ext").write_text(extensions)
    _openssl(
        folder, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr",
    )  # fmt: skip
    signer = ["-signkey", f"{name}.key"]
    if issuer is not None:
        signer = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial"]
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-days", "90", "-extfile", f"{name}.ext",
        "-out", f"{name}.pem", *signer,
    )  # fmt: skip


def make(folder):
    """root.pem, services-ca.pem and server.pem (both signed by the root), foreign.pem; each with its key."""
    folder.mkdir(parents=True)
    _issue(folder, "root", "Wicketgate test root", AUTHORITY)
    _issue(folder, "foreign", "Wicketgate foreign root", AUTHORITY)
    _issue(folder, "services-ca", "Wicketgate test services", AUTHORITY, issuer="root")
    _issue(folder, "server", SERVER_NAME, SERVER, issuer="root")
    return folder
