"""Nothing that can be made from the OpenAPI document gets a 5xx or an answer that it does not describe.

A fixed seed and few examples here; `python -m tests.support.schemathesis_run` goes on for longer.
"""

from __future__ import annotations

from pathlib import Path

from tests.support import leaks
from tests.support.schemathesis_run import explore, running

CHECKS = {
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "ignored_auth"),
    *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    *("missing_required_header", "unsupported_method", "allow_header_conformance"),
}


NEVER = {
    "GET /v1/sync",  # a WebSocket
    "POST /v1/sync",  # opens with one word among its headers
    "POST /v1/devices",  # needs a signature over a token that is told once
    "GET /v1/notices/{version}",  # the catalog declares none
    "GET /v1/aggregates/{metric}/uplift",  # the catalog has no experiment
    "GET /v1/aggregates/{metric}/drift",  # and no metric with a reference
    "POST /v1/webhook-deliveries/{id}/retry",  # of what was given up: nothing is sent here
    "DELETE /v1/webhook-deliveries/{id}",
    "POST /v1/consent-revocations/{id}/recipients/{name}",  # of a revocation that is completed
    "GET /v1/restore",
    "POST /v1/restore/open",  # of a server that was restored
}
"""What chance alone does not get taken in."""


def test_law_12_every_answer_is_one_that_the_document_describes(tmp_path: Path) -> None:
    """Every operation, with good, bad and random data, with the token, without it and with a wrong one."""
    with leaks.subjects_by_chance(), running(tmp_path / "data") as scene:
        found = explore(scene, seed=1, examples=1, steps=3)
        broken, scene.server.broken_promises = sorted(set(scene.server.broken_promises)), []
    assert not found.failures, "\n".join(f"{what}\n{how}" for what, how in found.failures.items())
    assert not broken
    paths = scene.document["paths"]
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert found.operations == operations
    assert set(found.checks) >= CHECKS
    guarded = {o for o in operations if _operation(paths, o)["security"]}
    assert {o for o, status in found.statuses if status == 401} >= guarded
    assert operations - found.taken_in <= NEVER


def _operation(paths: dict[str, dict[str, dict[str, object]]], label: str) -> dict[str, object]:
    method, path = label.split(" ")
    return paths[path][method.lower()]
