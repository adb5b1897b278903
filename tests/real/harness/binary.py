"""The server's binary: the one in WICKETGATE, else the newest build here, else a new build."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def find():
    named = os.environ.get("WICKETGATE")
    if named:
        return Path(named).resolve(strict=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    release, debug = target / "release/wicketgate", target / "debug/wicketgate"
    # A debug build costs nothing when it is up to date, so only a newer release build goes before it.
    if release.exists() and (not debug.exists() or release.stat().st_mtime > debug.stat().st_mtime):
        return release
    subprocess.run(["cargo", "build", "--locked", "--bin", "wicketgate"], cwd=ROOT, check=True)
    return debug
