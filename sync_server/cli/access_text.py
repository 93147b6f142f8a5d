"""`edge-sync tokens list` and `edge-sync audit` as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_runtime.wire.time_text import time_text
from sync_server.cli.printable import shown


def tokens_text(page: Mapping[str, Any]) -> str:
    """API tokens, three lines each; none of them holds a secret."""
    lines = [line for token in page["tokens"] for line in _token(token)]
    if not lines:
        lines = ["no API tokens (`api.token` in the data directory is not one of them)"]
    if page["after"] is not None:
        lines.append(f"Next page: `edge-sync tokens list --after {page['after']}`")
    return "\n".join(lines)


def _token(token: Mapping[str, Any]) -> Iterator[str]:
    yield f"{token['id']}  {shown(token['name'])}"
    yield f"  may     {', '.join(token['scopes'])} ({_bound(token)})"
    used = "never used" if token["used_at"] is None else f"last used {time_text(token['used_at'])}"
    yield f"  good    {_life(token)}; {used}"


def _bound(token: Mapping[str, Any]) -> str:
    if token["destinations"] is not None:
        return f"for the receiver of {', '.join(map(shown, token['destinations']))} alone"
    return "any team" if token["teams"] is None else f"team {', '.join(token['teams'])}"


def _life(token: Mapping[str, Any]) -> str:
    if token["revoked_at"] is not None:
        return f"no more: revoked {time_text(token['revoked_at'])}"
    return "until revoked" if token["expires_at"] is None else f"until {time_text(token['expires_at'])}"


def audit_text(page: Mapping[str, Any]) -> str:
    """Rows of the audit log, two lines each, in the order in which they came."""
    lines = [line for entry in page["entries"] for line in _entry(entry)]
    return "\n".join(lines or ["no rows"])


def _entry(entry: Mapping[str, Any]) -> Iterator[str]:
    came = f"{entry['outcome']} {entry['status']} {entry['code']}".rstrip()
    yield f"{entry['seq']:>7}  {time_text(entry['last_at'])}  {entry['method']} {entry['route']}"
    who = f"{entry['actor']} ({shown(entry['name'])})" if entry["name"] else entry["actor"]
    about = f", about {entry['resource']}" if entry["resource"] else ""
    times = f", {entry['count']} times" if entry["count"] > 1 else ""
    yield f"{'':>7}  {came}, by {who}{about}{times}"
