"""Where a cache's key rests, as every command that opens a cache asks for it."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.keys.providers import KeyProvider


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options; exactly one place must be named."""
    about = "where the cache's key rests: exactly one of --key-file, --slot, --keyring"
    group = parser.add_argument_group("key", about)
    place = group.add_mutually_exclusive_group(required=True)
    place.add_argument("--key-file", type=Path, metavar="PATH", help="a file (KeyFile)")
    place.add_argument("--slot", type=Path, metavar="PATH", help="a file under a passphrase (KeyPassphrase)")
    place.add_argument("--keyring", metavar="SERVICE", help="the system's keychain (KeyKeyring)")
    group.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="PATH",
        help="with --slot: its passphrase, mode 0600; without it the terminal is asked",
    )
    group.add_argument("--account", metavar="NAME", help="with --keyring: the entry's account")


def provider(options: argparse.Namespace) -> KeyProvider:
    """The provider that the options name.

    Raises `ValueError` for options that do not go together, for a passphrase file that others can read, and
    where a passphrase is needed but there is no terminal; `OSError` for one that cannot be read. Nothing is
    opened or created yet.
    """
    from edge_runtime.keys.providers import KeyFile

    if options.passphrase_file is not None and options.slot is None:
        raise ValueError("--passphrase-file: expected --slot beside it, the file that the passphrase opens")
    if options.account is not None and options.keyring is None:
        raise ValueError("--account: expected --keyring beside it")
    if options.key_file is not None:
        return KeyFile(options.key_file)
    if options.slot is not None:
        return _under_passphrase(options.slot, options.passphrase_file)
    return _in_keychain(options.keyring, options.account)


def _under_passphrase(slot: Path, passphrase_file: Path | None) -> KeyProvider:
    from edge_runtime.keys.passphrase import KeyPassphrase

    return KeyPassphrase(slot, _asked() if passphrase_file is None else _read(passphrase_file))


def _in_keychain(service: str, account: str | None) -> KeyProvider:
    from edge_runtime.keys.keychain import KeyKeyring

    return KeyKeyring(service) if account is None else KeyKeyring(service, account)


def _asked() -> str:
    if not sys.stdin.isatty():
        raise ValueError("--slot: expected --passphrase-file, since there is no terminal to ask on")
    return getpass.getpass("Passphrase: ")


def _read(path: Path) -> bytes:
    """The passphrase: the file without the line break at its end."""
    from edge_runtime.keys.passphrase import MAXIMUM_BYTES

    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ValueError("--passphrase-file: expected mode 0600, got a file that others can read")
        text = file.read(MAXIMUM_BYTES + 3)
    return text.removesuffix(b"\n").removesuffix(b"\r")
