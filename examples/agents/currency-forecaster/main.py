"""Fit a line to daily exchange rates and continue it by a day."""

import csv
import io
import json
import sys

MINIMUM_DAYS = 30

rows = list(csv.DictReader(io.StringIO(json.load(sys.stdin)["rates_csv"])))
rates = [float(row["rate"]) for row in rows]
print(f"{len(rates)} days read", file=sys.stderr, flush=True)
if len(rates) < MINIMUM_DAYS:
    print(f"{MINIMUM_DAYS} days are needed for a forecast, {len(rates)} were given", file=sys.stderr)
    raise SystemExit(3)
count = len(rates)
mean_day, mean_rate = (count - 1) / 2, sum(rates) / count
slope = sum((day - mean_day) * (rate - mean_rate) for day, rate in enumerate(rates)) / sum(
    (day - mean_day) ** 2 for day in range(count)
)
print(
    json.dumps({"slope_per_day": round(slope, 6), "next": round(mean_rate + slope * (count - mean_day), 4)})
)
