"""Keys change: the server's by a chain of its own words, a device's with both held until it is sure."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import edge_runtime as er
from edge_runtime.errors import NotEnrolled
from edge_runtime.keys.identity import Identity
from edge_runtime.sync import gate
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire import ticket as tickets
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server import cli
from sync_server.consent import statement
from sync_server.devices.authority import Authority, load_authority, rotate_key
from sync_server.errors import KeysMissing
from tests.journeys.test_withdrawal import Kiosk as RealKiosk
from tests.journeys.test_withdrawal import reads, revoked, shopping
from tests.journeys.test_withdrawal import synced as synced_runtime
from tests.support.clock import ManualClock
from tests.support.consent_room import die, killed
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import ShopServer
from tests.support.town import ALICE, Kiosk, P, Session, Town


def synced(kiosk: Kiosk) -> Session:
    session = Session(kiosk)
    session.settle()
    return session


def rotated(town: Town, kiosk: Kiosk, times: int = 1) -> Town:
    """The server stops, gets so many new keys in turn, and starts again."""
    town.close()
    for _ in range(times):
        rotate_key(town.settings.key_file, town.entropy)
    later = Town(town.folder, town.clock)
    later.entropy = town.entropy
    kiosk.town = later
    return later


# ---- the server's key --------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_a_device_follows_the_succession_and_trusts_the_new_key_for_good(
    town: Town, kiosk: Kiosk, times: int
) -> None:
    """One Welcome leads through all keys; lease, checkpoints and tickets of the new one verify."""
    town.put(5)
    synced(kiosk).close()
    old = kiosk.keyring.identity.server_key
    later = rotated(town, kiosk, times)
    session = synced(kiosk)
    welcome = session.heard_of(m.Welcome)[0]
    assert isinstance(welcome, m.Welcome)
    assert len(welcome.succession) == times
    assert kiosk.keyring.identity.server_key == later.authority.public_key != old
    assert session.device.caught_up
    assert kiosk.leases.state == "fresh"
    assert session.heard_of(m.Checkpoint)
    made = tickets.issue(later.authority.signing, kiosk.device_id, bytes(16), [P], 2**50)
    key = kiosk.keyring.identity.server_key
    assert key is not None
    tickets.check(key, made, kiosk.device_id, bytes(16), P, None)
    session.close()
    kiosk.close()
    again = Kiosk(later, kiosk.folder)
    once = synced(again)
    welcome = once.heard_of(m.Welcome)[0]
    assert isinstance(welcome, m.Welcome)
    assert welcome.succession == []
    assert once.device.caught_up
    once.close()
    again.close()
    later.close()


def test_law_12_an_old_end_a_forged_link_and_a_cut_chain_lead_nowhere(town: Town, kiosk: Kiosk) -> None:
    """Each is refused as `bad_signature`; the device trusts what it trusted, and nothing else moved."""
    synced(kiosk).close()
    first = town.authority
    later = rotated(town, kiosk, 2)
    session = Session(kiosk)
    assert session.step()
    frame = session.next()
    assert frame is not None
    honest = codec.decode(frame)
    assert isinstance(honest, m.Welcome)
    one, two = honest.succession
    thief = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x07")
    stolen = m.Succession(
        seal.public_bytes(thief),
        seal.sign(thief, seal.SUCCESSION, seal.succession_bytes(first.public_key, seal.public_bytes(thief))),
    )
    signers: list[tuple[list[m.Succession], Ed25519PrivateKey]] = [
        ([one], later.authority.signing),  # cut
        ([], later.authority.signing),
        ([two], later.authority.signing),  # the first link is missing
        ([two, one], later.authority.signing),
        ([one, stolen], thief),
        ([stolen], thief),
        ([msgspec.structs.replace(one, signature=bytes(64)), two], later.authority.signing),
        ([one, two], first.signing),  # the chain leads on, and an old key signs
    ]
    challenge, hello = session.server._challenge, session.device._opening._hello
    assert hello is not None
    pinned = kiosk.keyring.identity.server_key
    for chain, key in signers:
        bent = msgspec.structs.replace(honest, succession=chain, signature=bytes(64))
        body = seal.welcome_bytes(kiosk.device_id, challenge, bent)
        forged = msgspec.structs.replace(bent, signature=seal.sign(key, seal.WELCOME, body))
        assert pinned is not None
        with pytest.raises(WireFailure, match="bad_signature"):
            gate.check_welcome(forged, challenge, hello, pinned, None)
    assert gate.check_welcome(honest, challenge, hello, first.public_key, None).server_key == (
        later.authority.public_key
    )
    session.close()
    moved = synced(kiosk)
    moved.close()
    # now it trusts the newest: an old key and its own chain are no way back
    session = Session(kiosk)
    assert session.step()
    hello = session.device._opening._hello
    assert hello is not None
    old = msgspec.structs.replace(honest, nonce=hello.nonce, succession=[], signature=bytes(64))
    body = seal.welcome_bytes(kiosk.device_id, session.server._challenge, old)
    signed = msgspec.structs.replace(old, signature=seal.sign(first.signing, seal.WELCOME, body))
    with pytest.raises(WireFailure, match="bad_signature"):
        session.device.hear(codec.encode(signed), 0)
    assert kiosk.keyring.identity.server_key == later.authority.public_key
    later.close()


def test_a_device_that_trusts_a_key_that_was_never_ours_is_refused(town: Town, kiosk: Kiosk) -> None:
    """Its Hello says so, before anything is written."""
    kiosk.keyring.trust(bytes(31) + b"\x09")
    session = Session(kiosk)
    with pytest.raises(WireFailure, match="bad_signature"):
        session.step()
    assert "contact" not in town.store.transactions()


def test_law_6_a_kill_while_the_key_file_changes_leaves_the_old_key_or_the_new(tmp_path: Path) -> None:
    """Before the file is replaced the old one stands; what was begun beside it does not matter."""
    path, entropy = tmp_path / "server.key", CountingEntropy()
    before = load_authority(path, entropy, store_exists=False)

    def dies() -> None:
        os.replace = die  # type: ignore[assignment]
        Path.replace = lambda *_: die()  # type: ignore[assignment,method-assign]
        rotate_key(path, entropy)

    assert killed(dies)
    assert load_authority(path, entropy, store_exists=True).public_key == before.public_key
    after = rotate_key(path, entropy)
    now = load_authority(path, entropy, store_exists=True)
    assert now.public_key == after != before.public_key
    assert [link.public_key for link in now.succession(before.public_key)] == [after]
    assert path.stat().st_mode & 0o077 == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["server.key"]
    assert before.signing.private_bytes_raw().hex() not in path.read_bytes().hex()
    with pytest.raises(KeysMissing):
        rotate_key(tmp_path / "none.key", entropy)


def test_law_11_so_many_earlier_keys_are_named_and_no_more(tmp_path: Path) -> None:
    """A device that slept through more rotations than a Welcome can name must enrol anew."""
    path, entropy = tmp_path / "server.key", CountingEntropy()
    first = load_authority(path, entropy, store_exists=False).public_key
    second = rotate_key(path, entropy)
    for _ in range(64):
        rotate_key(path, entropy)
    now: Authority = load_authority(path, entropy, store_exists=True)
    assert len(now.succession(second)) == 64
    assert gate.successor(second, now.succession(second)) == now.public_key
    with pytest.raises(WireFailure, match="bad_signature"):
        now.succession(first)


def test_the_command_rotates_the_key_of_a_data_directory(
    town: Town, kiosk: Kiosk, capsys: pytest.CaptureFixture[str]
) -> None:
    """`edge-sync rotate-key --data`: from the next start the new key signs."""
    synced(kiosk).close()
    assert cli.main(["rotate-key", "--json", "--data", str(town.folder)]) == 0
    assert "public_key" in json.loads(capsys.readouterr().out)
    synced(kiosk).close()  # the server that runs signs with the old one
    town.close()
    later = Town(town.folder, town.clock)
    kiosk.town = later
    synced(kiosk).close()
    assert kiosk.keyring.identity.server_key == later.authority.public_key != town.authority.public_key
    assert cli.main(["rotate-key", "--json", "--data", str(town.folder / "nothing")]) == 1
    later.close()


# ---- a device's key ----------------------------------------------------------------------------------------


def device_key(town: Town, kiosk: Kiosk) -> bytes:
    with town.store.read() as tx:
        device = tx.device(kiosk.device_id)
    assert device is not None
    return device.public_key


def own_key(kiosk: Kiosk) -> bytes:
    return seal.public_bytes(kiosk.keyring.signing_key())


def waiting(kiosk: Kiosk) -> bool:
    return not kiosk.outbox.empty


def refused_opening(kiosk: Kiosk) -> None:
    """A session that the server ends at the Hello, as its door would say it."""
    session = Session(kiosk)
    with pytest.raises(WireFailure, match="bad_signature"):
        session.step()
    with pytest.raises(Exception, match="bad_signature"):
        session.device.hear(codec.encode(m.Refusal(code="bad_signature")), 0)
    session.close()


def test_a_device_changes_its_key_in_a_session_that_runs(town: Town, kiosk: Kiosk) -> None:
    """Told, stored, acknowledged: afterwards only the new key opens a session, and the old one is kept."""
    session = synced(kiosk)
    before = own_key(kiosk)
    kiosk.keyring.begin_key_change()
    kiosk.keyring.begin_key_change()
    session.tick()
    assert not session.device.caught_up
    session.settle()
    assert own_key(kiosk) == device_key(town, kiosk) != before
    assert kiosk.keyring.identity.next_seed is None
    assert len([said for said in session.said if isinstance(said, m.KeyChange)]) == 1
    with town.store.read() as tx:
        assert tx.device_keys(kiosk.device_id) == [before]
    session.close()
    again = synced(kiosk)
    assert again.device.caught_up
    again.close()


def test_law_6_the_acknowledgement_is_lost_and_the_next_hello_finds_out(town: Town, tmp_path: Path) -> None:
    """The server has the new key, the device does not know: refused under the old one, it tries the next."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    session = synced(kiosk)
    kiosk.keyring.begin_key_change()
    session.tick()
    assert isinstance(session.server._replies[-1], m.KeyChanged)
    session.close()  # never heard
    kiosk.close()
    again = Kiosk(town, tmp_path / "kiosk")
    assert own_key(again) != device_key(town, again)
    refused_opening(again)
    resumed = synced(again)
    assert own_key(again) == device_key(town, again)
    assert again.keyring.identity.next_seed is None
    assert not any(isinstance(said, m.KeyChange) for said in resumed.said)
    resumed.close()
    again.close()


def test_law_6_the_change_never_arrived_and_the_old_key_stands(town: Town, tmp_path: Path) -> None:
    """Killed before it was told; also when somebody in between makes the device try the wrong key."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    synced(kiosk).close()
    before = own_key(kiosk)
    kiosk.keyring.begin_key_change()
    kiosk.close()
    again = Kiosk(town, tmp_path / "kiosk")
    session = Session(again)
    assert session.step()
    with pytest.raises(Exception, match="bad_signature"):  # anybody may say that
        session.device.hear(codec.encode(m.Refusal(code="bad_signature")), 0)
    session.close()
    refused_opening(again)  # the next key, which the server does not have
    assert device_key(town, again) == before
    final = synced(again)
    assert own_key(again) == device_key(town, again) != before
    final.close()
    again.close()


def test_receipts_signed_before_the_change_are_still_taken(town: Town, kiosk: Kiosk) -> None:
    """They waited in the outbox: the key of before is known to the server, and so is the proof it makes."""
    kiosk.give(ALICE)
    session = synced(kiosk)
    with town.store.write("revocation") as tx:
        row, _ = town.office.revoke(tx, town.pseudonym(ALICE), [P], "subject", "2026-11")
    while not waiting(kiosk):
        frame = session.next()
        assert frame is not None
        session.device.hear(frame, kiosk.clock.boot_us())  # what it answers is lost with the socket
    session.close()
    kiosk.keyring.begin_key_change()
    kiosk.keyring.end_key_change()  # as if it had been told and acknowledged before the receipts were
    with town.store.write("key") as tx:
        tx.change_key(kiosk.device_id, own_key(kiosk), town.clock.now_us())
    later = synced(kiosk)
    assert not waiting(kiosk)
    town.office.settle()
    assert later.device.caught_up
    with town.store.read() as tx:
        target = tx.target(row.id, kiosk.device_id)
        assert target is not None
        assert target.erased_us is not None
        found = tx.revocation(row.id)
        assert found is not None
        document = town.office.outcome(tx, found)
    proved = statement.verify(document, town.authority.public_key)
    assert len(proved.receipts) == 1
    later.close()


def test_law_12_a_key_change_that_is_not_proved_changes_nothing(town: Town, kiosk: Kiosk) -> None:
    """Either proof missing, another device's, an enrolled key: refused by that key, the session goes on."""
    session = synced(kiosk)
    old = kiosk.keyring.signing_key()
    new = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x03")
    other = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x04")
    town.enrol(seal.public_bytes(other))

    def change(
        to: Ed25519PrivateKey, by: Ed25519PrivateKey, proof: Ed25519PrivateKey, device: str
    ) -> m.KeyChange:
        body = seal.key_change_bytes(device, seal.public_bytes(old), seal.public_bytes(to))
        return m.KeyChange(
            public_key=seal.public_bytes(to),
            signature=seal.sign(by, seal.KEY_CHANGE, body),
            new_signature=seal.sign(proof, seal.KEY_CHANGE, body),
        )

    mine = kiosk.device_id
    wrong = [
        change(new, new, new, mine),
        change(new, old, old, mine),
        change(new, old, new, "dev-other"),
        change(other, old, other, mine),
    ]
    for bad in wrong:
        session.server.hear(codec.encode(bad))
        answer = codec.decode(session.next() or b"")
        assert answer == m.Refusal(code="bad_signature", about=bad.public_key.hex())
        assert device_key(town, kiosk) == seal.public_bytes(old)
    for _ in range(2):
        session.server.hear(codec.encode(change(new, old, new, mine)))
        assert codec.decode(session.next() or b"") == m.KeyChanged(public_key=seal.public_bytes(new))
    assert session.server.state is State.LIVE
    session.close()


def test_law_11_a_device_changes_its_key_so_often_and_leaves_so_many_behind(tmp_path: Path) -> None:
    """A second change at once waits for another session; of the keys of before only the newest stay."""
    town = Town(tmp_path / "town", settings=lambda s: replace(s, device_keys_kept=3))
    kiosk = Kiosk(town, tmp_path / "kiosk")
    before = []
    for _ in range(5):
        before.append(own_key(kiosk))
        kiosk.keyring.begin_key_change()
        session = synced(kiosk)
        assert own_key(kiosk) == device_key(town, kiosk) != before[-1]
        session.close()
        town.clock.advance(us=town.settings.key_change_us)
    with town.store.read() as tx:
        assert tx.device_keys(kiosk.device_id) == before[:-4:-1]
    town.clock.advance(us=-1)
    kiosk.keyring.begin_key_change()
    session = synced(kiosk)
    refused = session.heard_of(m.Refusal)
    assert [(r.code, r.retry_after_us) for r in refused if isinstance(r, m.Refusal)] == [("overloaded", 1)]
    assert session.device.caught_up
    assert kiosk.keyring.identity.next_seed is not None
    session.close()
    town.clock.advance(us=1)
    synced(kiosk).close()
    assert own_key(kiosk) == device_key(town, kiosk) != before[-1]
    kiosk.close()
    town.close()


def test_a_word_about_another_key_is_malformed(town: Town, kiosk: Kiosk) -> None:
    """The device takes up only the key that it named."""
    session = synced(kiosk)
    before: Identity = kiosk.keyring.identity
    for begun in (False, True):
        if begun:
            kiosk.keyring.begin_key_change()
        with pytest.raises(WireFailure, match="malformed"):
            session.device.hear(codec.encode(m.KeyChanged(public_key=bytes(32))), 0)
        assert kiosk.keyring.identity.signing_seed == before.signing_seed
    session.close()


def test_the_server_s_key_and_the_device_s_may_change_at_once(town: Town, kiosk: Kiosk) -> None:
    """Neither forgets the other's change, however they interleave."""
    synced(kiosk).close()
    kiosk.keyring.begin_key_change()
    later = rotated(town, kiosk)
    session = synced(kiosk)
    assert session.device.caught_up
    assert own_key(kiosk) == device_key(later, kiosk)
    assert kiosk.keyring.identity.server_key == later.authority.public_key
    session.close()
    later.close()


# ---- whole runtimes and a whole server ---------------------------------------------------------------------


async def test_both_keys_change_under_a_runtime_that_lives_on(tmp_path: Path) -> None:
    """Over sockets: the device's key while linked, the server's across its restart, and all goes on."""
    clock = ManualClock()
    kiosk = RealKiosk(tmp_path / "kiosk", clock)
    async with ShopServer(tmp_path / "server", clock) as server:
        with kiosk.opened() as rt, pytest.raises(NotEnrolled):
            rt.rotate_identity()
        await kiosk.enrol(server)
        enrolled = (await server.call("GET", "/v1/devices")).body["devices"][0]
        first = server.authority.public_key
        with kiosk.opened() as rt:
            rt.rotate_identity()
            assert rt.status()["identity_changes"] is True
        with kiosk.opened() as rt:
            assert rt.status()["identity_changes"] is True
            async with synced_runtime(rt) as link:
                assert rt.status()["identity_changes"] is False
                shopping(rt)
                clock.advance(us=server.settings.key_change_us)
                rt.rotate_identity()
                await asyncio.wait_for(link.caught_up(), 20)
                assert rt.status()["identity_changes"] is False
                changed = (await server.call("GET", f"/v1/devices/{enrolled['device_id']}")).body
                assert changed["public_key"] != enrolled["public_key"]
                await revoked(server)
    rotate_key(server.settings.key_file, CountingEntropy())
    async with ShopServer(tmp_path / "server", clock) as later:
        assert later.authority.public_key != first
        with kiosk.opened() as rt:
            async with rt.sync(str(later.client.make_url(""))) as link:
                await asyncio.wait_for(link.caught_up(), 20)
                assert link.state == "fresh"
                assert reads(rt) == {er.Status.REVOKED}
        location = (await later.call("GET", "/v1/devices")).body["devices"]
        assert len(location) == 1
