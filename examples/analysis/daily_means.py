"""The daily mean of every metric of every device, with pandas.

    python daily_means.py http://127.0.0.1:8000 2026-02-01T00:00:00Z 2026-03-01T00:00:00Z

The environment variable API_KEY holds a key with the scope `read` if authentication is on.
"""

import os
import sys
from io import BytesIO
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pandas as pd


def readings(url: str, start: str, end: str) -> pd.DataFrame:
    """A row per value; the server sends a whole file or none."""
    query = urlencode({"format": "parquet", "from_time": start, "to_time": end})
    request = Request(f"{url}/v1/export?{query}")
    if key := os.environ.get("API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    with urlopen(request) as response:
        return pd.read_parquet(BytesIO(response.read()))


def daily_means(values: pd.DataFrame) -> pd.DataFrame:
    """A row per device and day, a column per metric."""
    day = values["timestamp"].dt.floor("D").rename("day")
    return values.pivot_table("value", index=["device_id", day], columns="metric", aggfunc="mean")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [url, start, end]:
            print(daily_means(readings(url, start, end)).to_string())
        case _:
            sys.exit("usage: python daily_means.py URL START END")
