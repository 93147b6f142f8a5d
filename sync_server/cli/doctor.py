"""`edge-sync doctor [DEVICE]`: where the server or a device stands, what is wrong, what to do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from edge_runtime.wire.time_text import time_text
from sync_server.cli.command import client, command
from sync_server.cli.told import Told
from sync_server.client import path_of


def doctor_command(commands: Any) -> None:
    """Hang the command under `commands`."""
    made = command(commands, "doctor", _doctor, "is everything as it should be, here or on one device")
    made.add_argument("device", nargs="?", help="a device's id: where it stands and what is wrong with it")


def _doctor(args: argparse.Namespace) -> object:
    server = client(args)
    if args.device is not None:
        found = server.call("GET", path_of("v1", "devices", args.device))
        return Told(found, device_text(found))
    ready = server.call("GET", "/readyz")
    return {
        "url": server.url,
        "ready": ready,
        "ledger": server.call("GET", "/v1/consent-ledger/head"),
        "devices": server.call("GET", "/v1/devices")["counts"],
        "catalogs": server.call("GET", "/v1/catalogs"),
        "key_database": "keep keys.db out of the backup that holds server.db",
        "journals": server.call("GET", "/v1/journals")["journals"],
        "events": server.call("GET", "/v1/events"),
        "to_do": standing_text(ready),
    }


def device_text(found: Mapping[str, Any]) -> str:
    """The reply of `GET /v1/devices/{id}` as text."""
    lines = [*_standing(found), *_channels(found["session"]), *_findings(found["findings"])]
    return "\n".join(lines)


def standing_text(ready: Mapping[str, Any]) -> list[str]:
    """What an operator has to do, from the reply of `GET /readyz`; nothing when all is well."""
    found = []
    if ready["journals"]["failing"]:
        found.append(f"{ready['journals']['failing']} journals are behind: see `journals`")
    if not any(ready["journals"].values()):
        found.append("there is no journal: what is denied after a backup is lost with this disk (--journal)")
    if ready["backup_at"] is None:
        found.append("there is no backup: edge-sync backup")
    restore = ready["restore"]
    if restore is not None and restore["state"] == "closed":
        latest = _time(restore["open_at_latest"])
        found.append(
            f"closed after a restore: waiting for {restore['waiting']} devices, at latest until {latest};"
            " edge-sync restore --open takes it upon you"
        )
    return found


def _standing(found: Mapping[str, Any]) -> Iterator[str]:
    session = found["session"]
    yield f"{found['device_id']}   {_state(found)}"
    yield f"  enrolled        {_time(found['enrolled_at'])}, may follow {', '.join(found['channels'])}"
    yield f"  last contact    {_time(found['contact_at'])}"
    yield f"  lease until     {_time(found['lease_until'])}"
    yield f"  decisions       {found['lane']} of {found['lane_head']} acknowledged"
    if session is not None:
        yield f"  session         {session['transport']}, since {_time(session['since'])}{_until(session)}"
        if session["personal_channels"]:
            yield f"  personal        {session['personal_channels']} channels"
    else:
        yield "  session         none since this server started"


def _state(found: Mapping[str, Any]) -> str:
    if found["revoked"]:
        return "REVOKED"
    session = found["session"]
    live = session is not None and session["live"]
    return "connected" if live else "not connected"


def _until(session: Mapping[str, Any]) -> str:
    return "" if session["live"] else f" until {_time(session['until'])}"


def _channels(session: Mapping[str, Any] | None) -> Iterator[str]:
    if session is None or not session["channels"]:
        return
    yield ""
    yield f"  {'channel':<24} {'cursor':>10} {'head':>10} {'behind':>8}  digest"
    for name, at in session["channels"].items():
        yield f"  {name:<24} {at['cursor']:>10} {at['head']:>10} {at['behind']:>8}  {_digest(at)}"
    for name, code in session["refused"].items():
        yield f"  {name:<24} refused: {code}"


def _digest(at: Mapping[str, Any]) -> str:
    if at["snapshot"]:
        return f"snapshot {at['snapshot']}"
    if at["mismatches"]:
        return f"differed {at['mismatches']} times"
    return "—" if at["compared_at"] is None else f"compared at {at['compared_at']}, no difference said"


def _findings(findings: list[Mapping[str, str]]) -> Iterator[str]:
    yield ""
    if not findings:
        yield "  nothing is wrong"
    for finding in findings:
        yield f"  ! {finding['text']}  ({finding['code']})"
        yield f"    {finding['do']}"


def _time(us: int | None) -> str:
    return "never" if us is None else time_text(us)
