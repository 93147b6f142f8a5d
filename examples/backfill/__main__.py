"""Features of every customer at every visit, computed by Dask in two processes, and proven by one.

Run `python -m examples.backfill` (`--rows 5000` for a part). The events of the shipped Online Retail sample
and the points to compute are shuffled by subject, so that each partition holds whole subjects; `er.replay`
runs on each partition as it would on the whole; a single replay then says the same, bit for bit. On a cluster
only the client's address changes, and the frames come from Parquet (`dask.dataframe.read_parquet`).

Any engine with a shuffle by key will do: what a state needs is all events of its subject, in any order.
"""

from __future__ import annotations

import argparse
import sys

import dask.dataframe as dd
import pandas as pd
from dask.distributed import Client, LocalCluster

from examples.backfill.partition import points_of, purchases, replayed

WORKERS, PARTITIONS = 2, 8


def by_partition(events: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """`replayed` on partitions by subject, in the cluster of the current client."""
    shuffled_events, shuffled_points = (
        dd.from_pandas(frame, npartitions=PARTITIONS).shuffle("user", shuffle_method="tasks")
        for frame in (events, points)
    )
    meta = replayed(events.head(0), points.head(1)).head(0)
    # Both frames were dealt by the same hash of the same column, so partition n of one fits n of the other.
    found = dd.map_partitions(replayed, shuffled_events, shuffled_points, meta=meta, align_dataframes=False)
    return found.compute()


def main() -> int:
    """Run it; 0 when the cluster and one process agree."""
    parser = argparse.ArgumentParser(prog="python -m examples.backfill", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="only the first so many events")
    events = purchases(parser.parse_args().rows)
    points = points_of(events)
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        found = by_partition(events, points)
    whole = replayed(events, points)
    order = ["user", "at"]
    same = found.sort_values(order, ignore_index=True).equals(whole.sort_values(order, ignore_index=True))
    print(f"{len(events)} events, {len(points)} points, {PARTITIONS} partitions, {WORKERS} processes")
    print("the same bits as one replay" if same else "NOT the same as one replay")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
