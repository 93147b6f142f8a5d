"""Peers of `bench read`: stores that hand out 32 numbers computed before. None where a peer is not here."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import sqlite3
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Timings = list[float]
Timed = Callable[[Callable[[int], object]], Timings]
Peer = tuple[str, Timings | None, str]
_FORM = struct.Struct("<32d")
_ROW = _FORM.pack(*(float(n) for n in range(32)))


def _numbers(raw: bytes) -> object:
    return np.array(_FORM.unpack(raw), dtype=np.float32)


def sqlite_plain(timed: Timed) -> Peer:
    """The standard library's SQLite, a file, one row for each of 1,000 entities."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "plain.db")
        connection.execute("CREATE TABLE feature(entity TEXT PRIMARY KEY, vals BLOB) WITHOUT ROWID")
        rows = ((f"user:{n}", _ROW) for n in range(1000))
        connection.executemany("INSERT INTO feature VALUES(?, ?)", rows)
        connection.commit()
        sql = "SELECT vals FROM feature WHERE entity = ?"
        times = timed(lambda _: _numbers(connection.execute(sql, ("user:7",)).fetchone()[0]))
        connection.close()
    return "sqlite_plain", times, "not encrypted, values computed before"


def redis_loopback(timed: Timed) -> Peer:
    """A redis-server of our own on a free loopback port, one string for each entity."""
    binary = shutil.which("redis-server")
    if binary is None:
        return "redis", None, "no redis-server on the path"
    try:
        redis: Any = importlib.import_module("redis")
    except ImportError:
        return "redis", None, "the redis client is not installed"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            if not _answers(client, redis):
                return "redis", None, "redis-server did not start"
            client.set("user:7", _ROW)
            times = timed(lambda _: _numbers(client.get("user:7")))
            client.close()
        finally:
            process.terminate()
            process.wait()
    return "redis", times, "loopback, values computed before"


def _answers(client: Any, redis: Any) -> bool:
    for _ in range(100):
        try:
            client.ping()
        except redis.exceptions.ConnectionError:
            time.sleep(0.05)
        else:
            return True
    return False


def feast_sqlite(reads: int) -> Peer:
    """Feast's SQLite online store, in the interpreter that FEAST_PYTHON names."""
    python = os.environ.get("FEAST_PYTHON")
    if not python:
        return "feast_sqlite", None, "FEAST_PYTHON names no interpreter that has feast"
    script = Path(__file__).with_name("feast_reads.py")
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(script), folder, str(reads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return "feast_sqlite", None, f"feast did not run: {last[:80]}"
    times = json.loads(done.stdout.strip().splitlines()[-1])
    return "feast_sqlite", [float(t) for t in times], "values computed before"
