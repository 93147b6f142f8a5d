"""A software token for a test: SoftHSM with its files in a folder of the test's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

TOKEN, PIN = "edge", "73914256"
MODULES = [
    path
    for path in (
        Path("/usr/lib/softhsm/libsofthsm2.so"),
        Path("/usr/local/lib/softhsm/libsofthsm2.so"),
        Path("/opt/homebrew/lib/softhsm/libsofthsm2.so"),
    )
    if path.exists() and shutil.which("softhsm2-util")
]


def make_token(folder: Path) -> Path:
    """One token with `PIN`; the path that SOFTHSM2_CONF must name for it to be found."""
    tokens, settings = folder / "tokens", folder / "softhsm2.conf"
    tokens.mkdir()
    settings.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    command = ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--so-pin", PIN, "--pin", PIN]
    subprocess.run(command, env={"SOFTHSM2_CONF": str(settings)}, check=True, capture_output=True)
    return settings
