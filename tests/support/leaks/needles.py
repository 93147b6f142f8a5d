"""Learns the run's secrets where they are made or first used: few and narrow places, so that renaming around
them does no harm. A run that learned nothing fails (`test_no_secret_leaks`).

Keys: whatever `edge_runtime.keys` and the server draw as keys from the operating system; whatever becomes an
AES key, a page key, the key of a pseudonym or the server's authority. Subjects: whoever is given a pseudonym,
which is everybody who is asked about on a device or named to the server; whose history is replayed; and what
a caller names before it is checked.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final

from tests.support.leaks.sink import sink

KEY_BYTES: Final = 32
DATA_KEY: Final = "key of edge_runtime"
SERVER_KEY: Final = "key of sync_server"
TENANT_KEY: Final = "tenant key"
TOKEN: Final = "token"
SUBJECT: Final = "subject"
DECLARED: Final = "declared name"
"""No needle: the name of an entity type, which is said wherever an id is expected, or of a catalog's part."""
_MAKERS: Final = {
    "edge_runtime.keys": DATA_KEY,
    "sync_server.store.keys": SERVER_KEY,
    "sync_server.devices.authority": SERVER_KEY,
}
_RELAYS: Final = {"sync_server.devices.entropy"}
"""Modules that draw for others: who asked them is what counts."""
personal_types: set[str] = set()
"""Entity types that some catalog of this process declares as data subjects."""


def watch_chance() -> None:
    """From now on keys are learned as they are drawn."""
    for module, name in ((secrets, "token_bytes"), (os, "urandom")):
        setattr(module, name, _drawing(getattr(module, name)))


def learn_from(module: ModuleType) -> None:
    """Called with each module of the product once it was run."""
    if hasattr(module, "AESGCM"):
        kind = SERVER_KEY if module.__name__.startswith("sync_server") else DATA_KEY
        _before(module, "AESGCM", lambda key, *_, **__: sink().secret(kind, key))
    for name, act in _PLACES.get(module.__name__, {}).items():
        _before(module, name, act)


def note_subject(subject: object) -> None:
    """A subject's typed id, or what a caller said in its place."""
    if isinstance(subject, str) and subject and sink().takes_subjects:
        sink().word(SUBJECT, subject)


def _drawing(draw: Callable[..., bytes]) -> Callable[..., bytes]:
    @wraps(draw)
    def drawn(*args: Any) -> bytes:
        made = draw(*args)
        if len(made) == KEY_BYTES:
            frame = sys._getframe(1)
            while frame.f_back is not None and frame.f_globals.get("__name__") in _RELAYS:
                frame = frame.f_back
            maker = _maker(str(frame.f_globals.get("__name__")))
            if maker is not None:
                sink().secret(_MAKERS[maker], made)
        return made

    return drawn


def _maker(module: str) -> str | None:
    return next((m for m in _MAKERS if module == m or module.startswith(m + ".")), None)


def _before(module: ModuleType, path: str, act: Callable[..., object]) -> None:
    """Call `act` with the arguments of every call of `path` (`name`, `Class.name`), if there is one."""
    *owners, name = path.split(".")
    owner: Any = module
    for step in owners:
        owner = getattr(owner, step, None)
    real = getattr(owner, name, None)
    if real is None:
        return

    @wraps(real, updated=())
    def told(*args: Any, **kwargs: Any) -> Any:
        act(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(owner, name, told)


def _pseudonym(tenant_key: bytes, subject: str) -> None:
    sink().secret(TENANT_KEY, tenant_key)
    note_subject(subject)


def _page_key(_: str, page_key: bytes, **__: object) -> None:
    sink().secret(DATA_KEY, page_key)


def _authority(file: Any) -> None:
    for name in ("signing_seed", "pseudonym_key", "digest_key", "tag_key"):
        sink().secret(SERVER_KEY, getattr(file, name))


def _token(_: object, token: str, *__: object) -> None:
    sink().word(TOKEN, token)


def _secret(_: object, __: str, text: str, *___: object) -> None:
    sink().word(TOKEN, text)


def _client(_: object, __: str, token: str, **___: object) -> None:
    sink().word(TOKEN, token)


def _entity_type(_: object, name: str, personal: bool) -> None:
    sink().word(DECLARED, name)
    if personal:
        personal_types.add(name)


def _document(table: object, *_: object, **__: object) -> None:
    """The names that the author of a catalog chose: a wrong one is said to them."""
    for name in table if isinstance(table, dict) else ():
        if isinstance(name, str) and name:
            sink().word(DECLARED, name)


def _histories(_: object, __: object, ___: object, wanted: Any, **____: object) -> None:
    for _view, entity in wanted:
        for part in str(entity).split("|"):
            if part.partition(":")[0] in personal_types:
                note_subject(part)


_PLACES: Final[dict[str, dict[str, Callable[..., object]]]] = {
    "edge_runtime.wire.seal": {"pseudonym": _pseudonym},
    "edge_runtime.cache.cipher": {"open_encrypted": _page_key},
    "edge_runtime.catalog.load": {"read_model": _document},
    "edge_runtime.catalog.model": {"EntityType.__init__": _entity_type},
    "edge_runtime.session.replay": {"Histories.__init__": _histories},
    "edge_runtime.consent.words": {"subject_of": lambda _, subject: note_subject(subject)},
    "sync_server.api.replies": {"_typed_subject": lambda _, text, __: note_subject(text)},
    "sync_server.devices.authority": {"_authority": _authority},
    "sync_server.devices.enrolment": {"NewToken.__init__": _token},
    "sync_server.access.tokens": {"NewSecret.__init__": _secret},
    "sync_server.client.client": {"Client.__init__": _client},
}
