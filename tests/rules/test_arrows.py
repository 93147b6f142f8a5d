"""Imports point the way the house is drawn: rooms that must stay pure or alone do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER_MAY_IMPORT = (
    "edge_runtime.wire",
    "edge_runtime.catalog",
    "edge_runtime.session",
    "edge_runtime.aggregates.mechanisms",
)
PURE = (
    "edge_runtime/wire",
    "edge_runtime/catalog",
    "edge_runtime/session",
    "edge_runtime/aggregates/mechanisms",
    "sync_server/aggregates/drift",
    "sync_server/aggregates/estimators",
    "sync_server/aggregates/experiments",
)
PURE_FILES = (
    "edge_runtime/sync/gate.py",
    "sync_server/consent/audit.py",
    "sync_server/consent/audit_heads.py",
    "sync_server/consent/ledger.py",
    "sync_server/consent/merkle.py",
    "sync_server/consent/root.py",
    "sync_server/consent/signed_document.py",
    "sync_server/consent/statement.py",
    "sync_server/consent/stating.py",
    "sync_server/consent/verifying.py",
    "sync_server/aggregates/documents.py",
    "sync_server/aggregates/estimate.py",
    "sync_server/aggregates/health.py",
    "sync_server/aggregates/plan.py",
    "sync_server/aggregates/release.py",
    "sync_server/aggregates/source.py",
    "sync_server/aggregates/table.py",
)
IMPURE_MODULES = {"time", "random", "secrets", "socket", "sqlite3", "apsw", "aiohttp", "asyncio", "threading"}
CLOCKS = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "clock_gettime", "clock_gettime_ns"}


def sources(top: str) -> list[Path]:
    return sorted((ROOT / top).rglob("*.py"))


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_device_never_imports_the_server() -> None:
    for path in sources("edge_runtime"):
        assert not {n for n in imports(path) if n.startswith("sync_server")}, path


def test_the_server_imports_only_pure_rooms_of_the_device() -> None:
    for path in sources("sync_server"):
        foreign = {n for n in imports(path) if n.startswith("edge_runtime")}
        assert all(n.startswith(SERVER_MAY_IMPORT) for n in foreign), (path, foreign)


def test_wire_imports_nothing_of_ours() -> None:
    for path in sources("edge_runtime/wire"):
        ours = {n for n in imports(path) if n.startswith(("edge_runtime", "sync_server"))}
        assert all(n.startswith("edge_runtime.wire") for n in ours), (path, ours)


def pure_files() -> list[Path]:
    found = [ROOT / name for name in PURE_FILES]
    for top in PURE:
        found += sources(top) or [(ROOT / top).with_suffix(".py")]
    return found


@pytest.mark.parametrize("path", pure_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_pure_rooms_import_no_clock_chance_socket_or_store(path: Path) -> None:
    assert not {n.split(".")[0] for n in imports(path)} & IMPURE_MODULES, path


def test_only_clock_py_reads_a_clock() -> None:
    for path in [*sources("edge_runtime"), *sources("sync_server")]:
        if path.name == "clock.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "time"
            ):
                assert node.attr not in CLOCKS, f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
                assert not (isinstance(node.value, ast.Name) and node.value.id in ("datetime", "date")), path


def test_the_standard_sqlite_is_not_imported_on_the_device() -> None:
    for path in sources("edge_runtime"):
        assert "sqlite3" not in {n.split(".")[0] for n in imports(path)}, path


def test_importing_the_runtime_loads_no_aiohttp() -> None:
    code = (
        "import sys, edge_runtime as er; er.Runtime, er.Catalog, er.KeyFile, er.replay;"
        "sys.exit('aiohttp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_runtime_loads_nothing_that_only_answering_needs() -> None:
    """An app that answers no round loads neither HPKE nor a mechanism."""
    code = (
        "import sys, edge_runtime as er; er.Runtime, er.Catalog, er.KeyFile; names = ' '.join(sys.modules);"
        "sys.exit('hpke' in names or 'aggregates.mechanisms' in names or 'aggregates.report' in names)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_broad_catches_stand_only_at_the_two_edges() -> None:
    allowed = {"edge_runtime/runtime.py", "sync_server/app.py"}
    for path in [*sources("edge_runtime"), *sources("sync_server")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                bare = node.type is None or (
                    isinstance(node.type, ast.Name) and node.type.id in ("Exception",)
                )
                assert not bare or str(path.relative_to(ROOT)) in allowed, f"{path}:{node.lineno}"


def test_the_oracles_of_noise_are_no_dependency() -> None:
    """OpenDP and dp-accounting judge the mechanisms in tests; what runs neither imports nor installs them."""
    oracles = ("opendp", "dp_accounting", "scipy")
    for path in (*sources("edge_runtime"), *sources("sync_server"), *sources("bench"), *sources("examples")):
        assert not {n for n in imports(path) if n.split(".")[0] in oracles}, path
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    assert "oracle" in groups
    for name, wanted in groups.items():
        named = any(re.match(r"(opendp|dp[-_]accounting|scipy)\b", one) for one in wanted)
        assert named == (name == "oracle"), name
        assert name in ("dev", "") or not any("oracle" in one for one in wanted), name
