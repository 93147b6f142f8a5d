"""The root slot on a PKCS#11 token: a smart card, an HSM, a TPM behind its module, or SoftHSM to try it.

Run `python -m examples.pkcs11_key MODULE TOKEN DATABASE --pin-file FILE`: it opens (or makes) a cache whose
key is on the token, collects under a consent, withdraws it, and prints what the receipt says. MODULE is the
vendor's library, such as /usr/lib/softhsm/libsofthsm2.so. Needs `pip install python-pkcs11`.

`TokenKey` is a whole `KeyProvider` (`docs/keys.md` says what one must promise), to be copied and fitted to
your token. The slot is a private data object. A token cannot replace one in one step, so each has a number:
the newest whole one counts, and older ones are destroyed once it is there.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pkcs11
from pkcs11 import Attribute, ObjectClass, Session, SlotFlag, Token
from pkcs11.exceptions import DeviceMemory, PinIncorrect, PinInvalid, PinLocked, PKCS11Error

import edge_runtime as er
from edge_runtime.keys import files
from edge_runtime.keys.providers import Assurance

APPLICATION = "edge-runtime"
CATALOG = Path(__file__).parent / "catalogs" / "shop.toml"


class TokenKey:
    """A root slot on a token.

    Args:
        module: the vendor's PKCS#11 library.
        token: the token's label.
        pin: the user's PIN, kept for as long as this object: every use logs in.
        label: name of the object; one for each database.
        hardware: say `tpm` in receipts. Only for a token of which you know that its objects rest in its
            hardware and are gone when destroyed. Software tokens keep them in files, and so does tpm2-pkcs11
            (sealed by the TPM, but an old copy of its file opens again): those are `file`. A slot that does
            not call itself hardware is refused.
    """

    def __init__(
        self,
        module: str | Path,
        token: str,
        pin: str,
        *,
        label: str = "root-slot",
        hardware: bool = False,
    ) -> None:
        self._module, self._token, self._pin, self._label = Path(module), token, pin, label
        self._hardware = hardware

    def __repr__(self) -> str:
        return f"TokenKey({str(self._module)!r}, {self._token!r}, label={self._label!r})"

    @property
    def assurance(self) -> Assurance:
        """`tpm` for what was declared hardware, else `file`."""
        return "tpm" if self._hardware else "file"

    def exists(self) -> bool:
        """Whether the token holds a whole slot."""
        with self._session() as session:
            return self._newest(session) is not None

    def load(self) -> bytes:
        """The slot.

        Raises `KeyMissing`, `KeyMismatch` (the PIN), `KeyUnreadable`, `StorageError` (no such token).
        """
        with self._session() as session:
            newest = self._newest(session)
        if newest is None:
            raise er.KeyMissing("the token holds no such key; nothing was created")
        return newest.slot

    def create(self, slot: bytes) -> bool:
        """Make the object; False when it is there."""
        with self._session() as session:
            if self._newest(session) is not None:
                return False
            self._keep(session, 1, slot)
            return True

    def store(self, slot: bytes) -> None:
        """Make the next object, read it back, destroy the others (also those that a kill left)."""
        with self._session() as session:
            newest = self._newest(session)
            self._keep(session, 1 if newest is None else newest.number + 1, slot)

    def _keep(self, session: Session, number: int, slot: bytes) -> None:
        made = {
            **self._named(),
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.MODIFIABLE: False,
            Attribute.VALUE: _packed(number, slot),
        }
        session.create_object(made)
        if self._newest(session) != (number, slot):
            raise er.StorageError("the token took the key and gave back another: expected what was written")
        for entry in list(session.get_objects(self._named())):
            if _unpacked(entry[Attribute.VALUE]) != (number, slot):
                entry.destroy()

    def _newest(self, session: Session) -> Numbered | None:
        raw = [entry[Attribute.VALUE] for entry in session.get_objects(self._named())]
        whole = [found for found in map(_unpacked, raw) if found is not None]
        if raw and not whole:
            raise er.KeyUnreadable("the token's objects of that name are not ours; nothing was touched")
        return max(whole, default=None)

    def _named(self) -> dict[Attribute, object]:
        kind = {Attribute.CLASS: ObjectClass.DATA}
        return {**kind, Attribute.APPLICATION: APPLICATION, Attribute.LABEL: self._label}

    def _found(self) -> Token:
        token = pkcs11.lib(str(self._module)).get_token(token_label=self._token)
        if self._hardware and not token.slot.flags & SlotFlag.HW_SLOT:
            raise er.StorageError("expected a hardware token, got one in software; nothing was touched")
        return token

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Logged in for one use. No token does what we do in one step, so processes take turns.

        What the token refuses becomes one of our errors; none holds the PIN.
        """
        try:
            with files.locked(self._module), self._found().open(rw=True, user_pin=self._pin) as session:
                yield session
        except (PinIncorrect, PinInvalid, PinLocked) as error:
            raise er.KeyMismatch(
                f"the token refused the PIN ({type(error).__name__}); nothing was touched. A few more lock it"
            ) from None
        except DeviceMemory:
            raise er.StorageFull("the token is full; the key is as it was") from None
        except (PKCS11Error, RuntimeError, OSError) as error:
            raise er.StorageError(
                f"the token is not there, or failed ({type(error).__name__}); it holds what it held, or the "
                "key whole"
            ) from None


class Numbered(NamedTuple):
    """A slot and its number; the greatest counts."""

    number: int
    slot: bytes


def _packed(number: int, slot: bytes) -> bytes:
    body = number.to_bytes(8) + slot
    return hashlib.blake2b(body, digest_size=16).digest() + body


def _unpacked(raw: bytes) -> Numbered | None:
    """None for what is not whole."""
    check, body = raw[:16], raw[16:]
    if len(body) < 8 or hashlib.blake2b(body, digest_size=16).digest() != check:
        return None
    return Numbered(int.from_bytes(body[:8]), body[8:])


def main() -> int:
    """Show a consent and its withdrawal, with the key on the token."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.pkcs11_key", description=__doc__.splitlines()[0]
    )
    parser.add_argument("module", type=Path)
    parser.add_argument("token")
    parser.add_argument("database", type=Path)
    parser.add_argument("--pin-file", type=Path, required=True)
    options = parser.parse_args()
    key = TokenKey(options.module, options.token, options.pin_file.read_text().strip())
    with er.Runtime.open(options.database, catalog=er.Catalog.load(CATALOG), key=key) as rt:
        rt.consent.give("alice", ["personalization"], notice="2026-11")
        rt.track("view", user="alice", item="85123A", price=2.55)
        receipt = rt.consent.withdraw("alice", ["personalization"]).verify()
    print(f"{receipt.kind}: {receipt.keys_destroyed} key, assurance {receipt.assurance}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
