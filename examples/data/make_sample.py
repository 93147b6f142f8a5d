"""Cut the demo's sample out of the full "Online Retail" file.

    python examples/data/make_sample.py online_retail.csv.gz

takes the data set as CSV (plain or gzip, header as at UCI) and writes `online_retail_sample.csv.gz` beside
this script. The rule looks at dates, missing customers and article codes only, never at what the demo makes
of a row; it is told in SOURCE.md.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

FIRST_DAY = "2011-04-01"
END_DAY = "2011-06-15"
"""Days in the sample: FIRST_DAY and later, before END_DAY."""

COLUMNS = ("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
SAMPLE = Path(__file__).with_name("online_retail_sample.csv.gz")


def belongs(row: dict[str, str]) -> bool:
    """Whether a row is in the sample: in the window, by a known customer, and an article (not postage)."""
    in_window = FIRST_DAY <= row["InvoiceDate"][:10] < END_DAY
    return in_window and bool(row["CustomerID"]) and row["StockCode"][:1].isdigit()


def sample(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Yield the sample's rows in the order found, with `17850.0` written as `17850`."""
    for row in rows:
        if belongs(row):
            yield {**row, "CustomerID": row["CustomerID"].removesuffix(".0")}


def read(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file, plain or gzip."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def write(rows: Iterable[dict[str, str]], path: Path) -> int:
    """Write rows as gzip CSV without a time stamp in it, and return how many."""
    text = io.StringIO()
    sheet = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    sheet.writeheader()
    count = 0
    for row in rows:
        sheet.writerow(row)
        count += 1
    path.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    return count


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{write(sample(read(Path(sys.argv[1]))), SAMPLE)} rows in {SAMPLE}")
