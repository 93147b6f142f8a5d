"""A real Secret Service for a test: gnome-keyring on a session bus of its own, in a home of its own."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import secretstorage

PROGRAMS = ("dbus-daemon", "gnome-keyring-daemon")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
_PASSWORD = b"the password of a login"
# no service folders: whoever is not there is not started either, no prompt and no second keyring
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""


class SecretService:
    """It runs from `start` to `stop`; `env` is what a program needs to find it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Unlocked, as after a login."""
        command = ["gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock"]
        self._daemon = daemon = subprocess.Popen(
            command,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            restore_signals=False,  # a file that may not grow is an error to it, not its end
        )
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        daemon.stdin.write(_PASSWORD)
        daemon.stdin.close()
        daemon.stdout.readline()  # says where it listens, once it does

    def stop(self) -> None:
        """As when the session ends."""
        assert self._daemon is not None
        assert self._daemon.stdout is not None
        self._daemon.terminate()
        self._daemon.wait()
        self._daemon.stdout.close()

    def revived(self) -> bool:
        """Whether it had aborted by itself; then it runs again, and holds nothing.

        gnome-keyring (42 here; others say it of 50) fails an assertion about a client that just came or went,
        once in some thousand connections.
        """
        assert self._daemon is not None
        with suppress(subprocess.TimeoutExpired):
            self._daemon.wait(timeout=2)  # its connection ends a little before it does
        if self._daemon.returncode != -signal.SIGABRT:
            return False
        self.stop()
        shutil.rmtree(Path(self.env["HOME"]) / ".local/share/keyrings")
        self.start()
        return True

    @contextmanager
    def no_room(self) -> Iterator[None]:
        """Its disk takes no more than a few bytes a file."""
        assert self._daemon is not None
        before = resource.prlimit(self._daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._daemon.pid, resource.RLIMIT_FSIZE, (64, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self._daemon.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def secret_service(home: Path) -> Iterator[SecretService]:
    """Started and unlocked; gone, with its bus, at the end."""
    (home / "run").mkdir(mode=0o700)
    (home / "bus.conf").write_text(_BUS)
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "GNOME_KEYRING_CONTROL")
    env = {name: value for name, value in os.environ.items() if name not in displays}
    env |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
    with _bus(home / "bus.conf", env) as address:
        service = SecretService({**env, "DBUS_SESSION_BUS_ADDRESS": address})
        service.start()
        try:
            yield service
        finally:
            service.stop()


@contextmanager
def _bus(settings: Path, env: dict[str, str]) -> Iterator[str]:
    command = ["dbus-daemon", f"--config-file={settings}", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as bus:
        assert bus.stdout is not None
        try:
            yield bus.stdout.readline().decode().strip()
        finally:
            bus.terminate()


def lock() -> None:
    """As when the user locked the keychain that the environment names; nobody is there to unlock it again."""
    with closing(secretstorage.dbus_init()) as bus:
        secretstorage.get_default_collection(bus).lock()
