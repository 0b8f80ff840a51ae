#!/usr/bin/env python3
"""The recoveries of repeated experiments as one Markdown table: medians with the interval of each, in seconds.

    mettle run FILE… --repeat 10 --out out && python3 examples/recovery_table.py out

Everything is read from each report's `repeats`; nothing is computed here. A dash: it was seen in no run, or does not apply.
"""

import json
import pathlib
import sys

PHASES = ["detect", "elect", "route", "client", "redundancy", "total"]


def seconds(statistic):
    if statistic is None or statistic["median"] is None:
        return "–"
    text = "%.1f" % (statistic["median"] / 1000)
    interval = statistic.get("interval")
    if not interval:
        return text
    low, high = ("∞" if end is None else "%.1f" % (end / 1000) for end in (interval["low"], interval["high"]))
    return "%s (%s–%s)" % (text, low, high)


def row(repeats):
    statistics = repeats["statistics"]
    phases = [seconds(statistics.get("recovery_%s_ms" % phase)) for phase in PHASES]
    runs = "%d of %d" % (repeats["passed"], repeats["runs"])
    return [repeats["experiment"], runs] + phases


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = []
    for out in sys.argv[1:]:
        path = pathlib.Path(out)
        report = json.loads((path / "report.json" if path.is_dir() else path).read_text())
        rows += [row(repeats) for repeats in report["repeats"]]
    print("| experiment | passed | %s |" % " | ".join(PHASES))
    print("|---" * (len(PHASES) + 2) + "|")
    for cells in rows:
        print("| %s |" % " | ".join(cells))


main()
