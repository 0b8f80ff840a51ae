#!/usr/bin/env python3
"""The recoveries of repeated experiments as Markdown tables: medians with the interval of each, in seconds, first of the
phases, then of what the checks measured (breakers, alerts, autoscalers, recovery points).

    mettle run FILE… --repeat 10 --out out && python3 examples/recovery_table.py out

Everything is read from each report's `repeats`; nothing is computed here. A dash: it was seen in no run, or does not apply.
"""

import json
import pathlib
import sys

PHASES = ["detect", "elect", "route", "client", "redundancy", "total"]


def written(statistic, number):
    """The median and its interval; `number` writes one figure."""
    if statistic is None or statistic["median"] is None:
        return "–"
    text = number(statistic["median"])
    interval = statistic.get("interval")
    if not interval:
        return text
    low, high = ("∞" if end is None else number(end) for end in (interval["low"], interval["high"]))
    return "%s (%s–%s)" % (text, low, high)


def seconds(statistic):
    return written(statistic, lambda ms: "%.1f" % (ms / 1000))


def row(repeats):
    statistics = repeats["statistics"]
    phases = [seconds(statistics.get("recovery_%s_ms" % phase)) for phase in PHASES]
    runs = "%d of %d" % (repeats["passed"], repeats["runs"])
    return [repeats["experiment"], runs] + phases


def of_checks(repeats):
    """What the checks measured beyond the phases: breakers, alerts, autoscalers, recovery points."""
    for name, statistic in sorted(repeats["statistics"].items()):
        if ": " not in name:
            continue
        in_ms = name.endswith("_ms")
        text = seconds(statistic) + " s" if in_ms else written(statistic, lambda value: "%.2f" % value)
        yield [repeats["experiment"], name.removesuffix("_ms"), text]


def table(head, rows):
    print("| %s |" % " | ".join(head))
    print("|---" * len(head) + "|")
    for cells in rows:
        print("| %s |" % " | ".join(cells))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows, more = [], []
    for out in sys.argv[1:]:
        path = pathlib.Path(out)
        report = json.loads((path / "report.json" if path.is_dir() else path).read_text())
        rows += [row(repeats) for repeats in report["repeats"]]
        more += [cells for repeats in report["repeats"] for cells in of_checks(repeats)]
    table(["experiment", "passed"] + PHASES, rows)
    if more:
        print()
        table(["experiment", "measured", "median"], more)


main()
