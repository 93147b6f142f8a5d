"""What runs in the cluster: one partition's events and points, replayed as anywhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import edge_runtime as er

SAMPLE = Path(__file__).parents[1] / "data" / "online_retail_sample.csv.gz"
CATALOG = er.Catalog.load(Path(__file__).with_name("catalog.toml"))
FEATURES = CATALOG.view("activity").features
REFS = tuple(f"activity:{name}" for name in FEATURES)
DTYPES = {"float64": "float64", "int64": "Int64", "string": "string"}
COLUMNS = {"user": "string"} | {f"activity:{n}": DTYPES[str(f.dtype)] for n, f in FEATURES.items()}
"""Dtypes by declaration: a partition where some value never occurs has the same columns as any other."""


def purchases(rows: int | None = None) -> pd.DataFrame:
    """The first `rows` events of the sample, or all: one event a row, `at` in Unix seconds."""
    raw = pd.read_csv(SAMPLE, nrows=rows, dtype={"InvoiceNo": str, "StockCode": str, "CustomerID": str})
    at = pd.to_datetime(raw["InvoiceDate"], format="%Y-%m-%d %H:%M:%S", utc=True)
    return pd.DataFrame(
        {
            "type": np.where(raw["InvoiceNo"].str.startswith("C"), "cancel", "purchase"),
            "user": raw["CustomerID"],
            "item": raw["StockCode"],
            "at": [int(moment.timestamp()) for moment in at],
            "price": raw["UnitPrice"],
            "quantity": raw["Quantity"],
        }
    )


def points_of(events: pd.DataFrame) -> pd.DataFrame:
    """One point for each visit: the customer, one second before the first line was booked."""
    points = events[["user", "at"]].drop_duplicates(ignore_index=True)
    return points.assign(at=points["at"] - 1)


def replayed(events: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """`points` with a column for each feature: all events of the points' subjects must be in `events`."""
    table = er.replay(CATALOG, events.to_dict("records"), points=points.to_dict("records"), refs=REFS)
    return pd.concat([points.reset_index(drop=True), table.to_pandas()], axis="columns").astype(COLUMNS)
