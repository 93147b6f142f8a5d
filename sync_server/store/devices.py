"""Devices: tokens, enrolment, contact, acknowledged lane positions and leases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sync_server.journal.record import Known
from sync_server.store.chapter import Chapter
from sync_server.store.keys import KeyDatabase
from sync_server.store.records import DeviceRow, GrantedLease, TokenRow

_COLUMNS = (
    "device_id, public_key, patterns, enrolled_us, contact_us, lane_acked, counter, lease_until_us,"
    " revoked_us, wiped_us, cold_start, revoked_why, enrolled_lane"
)


class DeviceReads(Chapter):
    """Questions about devices."""

    def device(self, device_id: str) -> DeviceRow | None:
        """One device, revoked or not; None when it never enrolled."""
        row = self.execute(f"SELECT {_COLUMNS} FROM devices WHERE device_id = ?", (device_id,)).fetchone()
        return None if row is None else _device(row)

    def device_with_key(self, public_key: bytes) -> DeviceRow | None:
        """The device that enrolled this key."""
        row = self.execute(f"SELECT {_COLUMNS} FROM devices WHERE public_key = ?", (public_key,)).fetchone()
        return None if row is None else _device(row)

    def devices(self, limit: int, after: str = "") -> list[DeviceRow]:
        """At most `limit` devices by id, from the one after `after`."""
        found = self.execute(
            f"SELECT {_COLUMNS} FROM devices WHERE device_id > ? ORDER BY device_id LIMIT ?", (after, limit)
        )
        return [_device(row) for row in found]

    def count_devices(self, now_us: int) -> dict[str, int]:
        """`enrolled`, `live` (a lease runs) and `revoked` devices."""
        row = self.execute(
            "SELECT count(*), count(*) FILTER (WHERE lease_until_us > ? AND revoked_us IS NULL),"
            " count(revoked_us) FROM devices",
            (now_us,),
        ).fetchone()
        return {"enrolled": row[0], "live": row[1], "revoked": row[2]}

    def device_keys(self, device_id: str) -> list[bytes]:
        """The keys that a device signed with before the present one, newest first."""
        found = self.execute(
            "SELECT public_key FROM device_keys WHERE device_id = ? ORDER BY until_us DESC", (device_id,)
        )
        return [bytes(key) for (key,) in found]

    def key_changed_us(self, device_id: str) -> int | None:
        """When a device last named another key; None when it never did."""
        found = self.execute("SELECT max(until_us) FROM device_keys WHERE device_id = ?", (device_id,))
        at_us: int | None = found.fetchone()[0]
        return at_us

    def key_was_used(self, public_key: bytes) -> bool:
        """Whether a device signs with this key, or did before."""
        found = self.execute("SELECT 1 FROM device_keys WHERE public_key = ?", (public_key,)).fetchone()
        return found is not None or self.device_with_key(public_key) is not None

    def devices_mark(self) -> bytes:
        """Other bytes after every change of what a device may do; for nodes that heard nothing of it."""
        found = self.execute("SELECT value FROM meta WHERE key = 'devices'").fetchone()
        return b"" if found is None else bytes(found[0])

    def limits_in_force(self, now_us: int) -> list[str]:
        """What running leases said of shorter ones, each text once: JSON purpose -> microseconds."""
        found = self.execute("SELECT DISTINCT limits FROM devices WHERE lease_until_us > ?", (now_us,))
        return [row[0] for row in found]

    def token(self, token_hash: bytes) -> TokenRow | None:
        """The enrolment token with this hash."""
        row = self.execute(
            "SELECT expires_us, patterns, used_us FROM device_tokens WHERE hash = ?", (token_hash,)
        ).fetchone()
        return None if row is None else TokenRow(row[0], tuple(json.loads(row[1])), row[2])


class DeviceWrites(DeviceReads):
    """Changes of devices."""

    def __init__(self, connection: sqlite3.Connection, keys: KeyDatabase, digest_key: bytes) -> None:
        super().__init__(connection, keys, digest_key)
        self.devices_moved: set[str] = set()

    def add_token(self, token_hash: bytes, created_us: int, expires_us: int, patterns: Sequence[str]) -> None:
        """Store a new enrolment token by its hash."""
        self.execute(
            "INSERT INTO device_tokens VALUES (?, ?, ?, ?, NULL)",
            (token_hash, created_us, expires_us, json.dumps(list(patterns))),
        )

    def use_token(self, token_hash: bytes, used_us: int) -> bool:
        """Use the token up; False when it was used before or never was."""
        found = self.execute(
            "UPDATE device_tokens SET used_us = ? WHERE hash = ? AND used_us IS NULL", (used_us, token_hash)
        )
        return found.rowcount == 1

    def drop_tokens(self, before_us: int) -> int:
        """Forget tokens that expired before then."""
        return self.execute("DELETE FROM device_tokens WHERE expires_us < ?", (before_us,)).rowcount

    def add_device(
        self, device_id: str, public_key: bytes, patterns: Sequence[str], enrolled_us: int
    ) -> None:
        """Enrol a device: it has no lease and stands at the beginning of the lane."""
        self.execute(
            "INSERT INTO devices (device_id, public_key, patterns, enrolled_us, lane_acked, counter,"
            " lease_until_us, enrolled_lane) VALUES (?, ?, ?, ?, 0, 0, 0,"
            " (SELECT coalesce(max(seq), 0) FROM evidence))",
            (device_id, public_key, json.dumps(list(patterns)), enrolled_us),
        )
        self._tell(device_id)

    def revoke_device(self, device_id: str, at_us: int, why: str | None = None) -> bool:
        """Shut a device out; False when there is no such live device. A running lease stays a target.

        Tickets that it was given are void: what it brought and nobody opened yet counts for nobody.

        Args:
            why: in the operator's words; `lost`, say.
        """
        found = self.execute(
            "UPDATE devices SET revoked_us = ?, revoked_why = ? WHERE device_id = ? AND revoked_us IS NULL",
            (at_us, why, device_id),
        )
        self.tickets.void_of(device_id)
        self._device_moved(device_id)
        return found.rowcount == 1

    def device_wiped(self, device_id: str, at_us: int) -> None:
        """A revoked device says that it erased everything; the first time stays."""
        self.execute(
            "UPDATE devices SET wiped_us = coalesce(wiped_us, ?) WHERE device_id = ?", (at_us, device_id)
        )

    def allow_channels(self, device_id: str, patterns: Sequence[str]) -> None:
        """From now on a device may follow what these patterns name, and no other shared channel."""
        self.execute(
            "UPDATE devices SET patterns = ? WHERE device_id = ?", (json.dumps(list(patterns)), device_id)
        )
        self._device_moved(device_id)

    def change_key(self, device_id: str, public_key: bytes, at_us: int, keep: int = 64) -> None:
        """From now on a device signs with another key; the one before is kept with the time.

        Args:
            keep: how many earlier keys stay.
        """
        self.execute(
            "INSERT INTO device_keys SELECT public_key, device_id, ? FROM devices WHERE device_id = ?",
            (at_us, device_id),
        )
        self.execute("UPDATE devices SET public_key = ? WHERE device_id = ?", (public_key, device_id))
        self.execute(
            "DELETE FROM device_keys WHERE device_id = ?1 AND public_key NOT IN (SELECT public_key"
            " FROM device_keys WHERE device_id = ?1 ORDER BY until_us DESC LIMIT ?2)",
            (device_id, keep),
        )
        self._tell(device_id)

    def _device_moved(self, device_id: str) -> None:
        self._tell(device_id)
        self.devices_moved.add(device_id)
        self.execute("INSERT OR REPLACE INTO meta VALUES ('devices', randomblob(16))")

    def _tell(self, device_id: str) -> None:
        """The journal hears how a device is enrolled from now on."""
        device = self.device(device_id)
        if device is not None:
            size = self.execute("SELECT coalesce(max(seq), 0) FROM evidence").fetchone()[0]
            self.told.append(Known(device, size))

    def note_contact(self, device_id: str, at_us: int, counter: int) -> None:
        """A session opened; the highest root counter ever reported is kept."""
        self.execute(
            "UPDATE devices SET contact_us = ?, counter = max(counter, ?) WHERE device_id = ?",
            (at_us, counter, device_id),
        )

    def ack_lane(self, device_id: str, upto: int, at_us: int) -> list[str]:
        """The device enforced the lane up to `upto`; returns the revocations that waited for that."""
        self.execute(
            "UPDATE devices SET lane_acked = max(lane_acked, ?) WHERE device_id = ?", (upto, device_id)
        )
        found = self.execute(
            "UPDATE targets SET acked_us = ? WHERE device_id = ? AND position <= ? AND acked_us IS NULL"
            " RETURNING revocation",
            (at_us, device_id, upto),
        )
        return [row[0] for row in found.fetchall()]

    def grant_lease(self, device_id: str, upto: int, granted: GrantedLease) -> bool:
        """Store a lease. To be sent only after the commit.

        Returns False, and stores nothing, when the lane moved past `upto`, the device has not acknowledged
        all of it, or it is revoked. A shorter lease never shortens one that may still run; and while one that
        named other limits may still run, none of the new limits is counted on. Who trusted its wall clock is
        said to do so until all of those leases are over.
        """
        g = granted
        found = self.execute(
            "UPDATE devices SET lease_until_us = max(lease_until_us, :until),"
            " leased_us = max(coalesce(leased_us, 0), :at),"
            " unlimited_us = CASE WHEN limits = :limits THEN unlimited_us ELSE lease_until_us END,"
            " limits = :limits,"
            " cold_start = CASE WHEN lease_until_us > :at AND cold_start = 'lease' THEN cold_start"
            " ELSE :cold END"
            " WHERE device_id = :device AND revoked_us IS NULL"
            " AND min(:upto, lane_acked) >= (SELECT coalesce(max(seq), 0) FROM evidence)",
            {
                "until": g.until_us,
                "at": g.at_us,
                "limits": limits_text(g.limits),
                "cold": g.cold_start,
                "device": device_id,
                "upto": upto,
            },
        )
        return found.rowcount == 1


def limits_text(limits: Mapping[str, int]) -> str:
    """Limits as they stand in a column: the same ones are the same text."""
    return json.dumps(limits, sort_keys=True)


def _device(row: tuple[Any, ...]) -> DeviceRow:
    device_id, key, patterns, enrolled_us, contact_us, acked, counter, lease_us, *rest = row
    revoked_us, wiped_us, cold_start, why, enrolled_lane = rest
    return DeviceRow(
        *(device_id, key, tuple(json.loads(patterns)), enrolled_us, contact_us, acked, counter, lease_us),
        revoked=revoked_us is not None,
        wiped_us=wiped_us,
        cold_start=cold_start,
        revoked_why=why,
        enrolled_lane=enrolled_lane,
    )
