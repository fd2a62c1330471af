"""The energy that each device gave and took in a range, with DuckDB on a Parquet file.

    curl -f -o events.parquet "http://127.0.0.1:8000/v1/export?format=parquet&device_id=battery-7"
    python energy.py events.parquet

The file may be larger than memory, and the same query reads several at once: events-*.parquet.
"""

import sys

import duckdb

# Power is voltage times current of one event, and lasts until the next event, for five minutes at most.
ENERGY = """
with event as (
    pivot (select device_id, event_id, timestamp, metric, value from read_parquet($file))
    on metric in ('voltage_v', 'current_a') using max(value)
), step as (
    select device_id, voltage_v * current_a as power_w,
           least(epoch(lead(timestamp) over next - timestamp), 300) as seconds
    from event window next as (partition by device_id order by timestamp)
)
select device_id,
       sum(greatest(power_w, 0) * seconds) / 3.6e6 as taken_kwh,
       sum(-least(power_w, 0) * seconds) / 3.6e6 as given_kwh
from step group by device_id order by device_id
"""

if __name__ == "__main__":
    if len(sys.argv[1:]) != 1:
        sys.exit("usage: python energy.py FILE")
    for device_id, taken, given in duckdb.execute(ENERGY, {"file": sys.argv[1]}).fetchall():
        print(f"{device_id}: {taken:.3f} kWh taken, {given:.3f} kWh given")
