"""Real streams of events: NASA HTTP, Online Retail and OTTO, as flat dicts in the order of their files.

`EDGE_BENCH_DATA` (or a folder handed in) holds a folder for each: `nasa_http`, `online_retail` and
`otto_sessions`. Without it the samples of the repository are read, and `Found.what` says so.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.stream_catalogs import NASA_HTTP, ONLINE_RETAIL, OTTO_SESSIONS

Flat = dict[str, str | int | float]
"""One event as `Runtime.track_many` and `replay` take it; `at` is Unix seconds."""

FOLDER_VARIABLE = "EDGE_BENCH_DATA"
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Stream:
    """One data set: where it lies, how it is read, and the catalog (TOML) of its 12 session features."""

    name: str
    file: str
    """Relative to the data folder."""
    sample: str
    """Relative to the repository."""
    read: Callable[[Path], Iterator[Flat]]
    catalog: str


@dataclass(frozen=True, slots=True)
class Found:
    """A stream and the file that stands for it here."""

    stream: Stream
    path: Path
    what: str
    """The word for tables: whole, or sample."""

    def events(self) -> Iterator[Flat]:
        """The file's events, in its order."""
        return self.stream.read(self.path)


def find(name: str, folder: Path | None = None) -> Found:
    """The stream `name` in `folder`, else in the folder that EDGE_BENCH_DATA names, else its sample.

    Raises:
        FileNotFoundError: a folder is named, and the stream's file is not in it.
    """
    stream = STREAMS[name]
    named = os.environ.get(FOLDER_VARIABLE)
    data = folder if folder is not None else Path(named) if named else None
    if data is None:
        return Found(stream, _ROOT / stream.sample, "sample")
    path = data / stream.file
    if not path.is_file():
        raise FileNotFoundError(f"expected {stream.file} in the folder of the data sets, got no such file")
    return Found(stream, path, "whole")


def nasa_http(path: Path) -> Iterator[Flat]:
    """One `fetch` a row: user = host, and what was asked for; a count that is no number is left out.

    The file is Latin-1 and a URL may hold any byte but tab and newline, so lines are cut as bytes.
    """
    with gzip.open(path, "rb") as file:
        next(file)
        for line in file:
            host, at, method, url, status, size = line.decode("latin-1").rstrip("\n").split("\t")
            event: Flat = {"type": "fetch", "user": host, "resource": url, "at": int(at), "method": method}
            event |= {k: int(v) for k, v in (("status", status), ("bytes", size)) if v.isdecimal()}
            yield event


def online_retail(path: Path) -> Iterator[Flat]:
    """One `purchase` or `cancel` (InvoiceNo begins with C) a row, ties and repeated rows as found.

    user = CustomerID; where it is missing, a visitor known by the invoice alone. InvoiceDate is a local time
    without a zone and is read as UTC. The price is that of one piece, the quantity of a cancel is negative.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            invoice = row["InvoiceNo"]
            at = datetime.strptime(row["InvoiceDate"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            yield {
                "type": "cancel" if invoice.startswith("C") else "purchase",
                "user": row["CustomerID"].removesuffix(".0") or f"visitor-{invoice}",
                "item": row["StockCode"],
                "at": int(at.timestamp()),
                "price": float(row["UnitPrice"]),
                "quantity": int(row["Quantity"]),
                "country": row["Country"],
            }


def otto_sessions(path: Path) -> Iterator[Flat]:
    """One `clicks`, `carts` or `orders` an event: user = session, item = aid; session after session."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            session = json.loads(line)
            for event in session["events"]:
                yield {
                    "type": event["type"],
                    "user": str(session["session"]),
                    "item": str(event["aid"]),
                    "at": event["ts"] / 1000,
                }


STREAMS = {
    stream.name: stream
    for stream in (
        Stream(
            "nasa_http",
            "nasa_http/nasa_http_19950701_19950801.tsv.gz",
            "tests/data/streams/nasa_http.tsv.gz",
            nasa_http,
            NASA_HTTP,
        ),
        Stream(
            "online_retail",
            "online_retail/online_retail_2010-12_2011-08.csv.gz",
            "examples/data/online_retail_sample.csv.gz",
            online_retail,
            ONLINE_RETAIL,
        ),
        Stream(
            "otto_sessions",
            "otto_sessions/otto_20_sessions.jsonl",
            "tests/data/streams/otto_sessions.jsonl",
            otto_sessions,
            OTTO_SESSIONS,
        ),
    )
}
"""The streams by name."""
