#!/usr/bin/python3
"""`metrics.py queries` writes every dashboard query as a recording rule, so that promtool can check it.
`metrics.py exist URL` asks a Prometheus for each metric that a rule or a dashboard names."""

import json
import pathlib
import re
import sys
import urllib.request

BASE = pathlib.Path(__file__).resolve().parent.parent / "base"
WORDS = set("""sum rate by on and or unless absent scalar max min count vector clamp_min histogram_quantile without increase
time ignoring group_left group_right avg topk bool offset label_replace le inf nan""".split())


def dashboard_queries():
    for path in sorted((BASE / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield "%s, %s" % (path.name, panel["title"]), target["expr"]


def rule_queries():
    """Expressions of the rule files: after `expr:`, on the line or as a block that is indented deeper."""
    for path in sorted((BASE / "monitoring").glob("*.yml")):
        block, depth = None, 0
        for line in path.read_text().splitlines() + [""]:
            indent = len(line) - len(line.lstrip())
            if block is not None and (indent > depth or not line.strip()):
                block.append(line.strip())
                continue
            if block is not None:
                yield path.name, " ".join(block)
                block = None
            found = re.match(r" *expr: (.*)", line)
            if found and found.group(1) == "|":
                block, depth = [], indent
            elif found:
                yield path.name, found.group(1)


def names(query):
    query = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"", " ", query)
    query = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", query)
    return set(re.findall(r"(?<![\w:.])[a-z_][\w:]*", query)) - WORDS


def write_rules():
    print("groups:\n  - name: dashboards\n    rules:")
    for index, (_, query) in enumerate(dashboard_queries()):
        print("      - record: panel:%d\n        expr: %s" % (index, json.dumps(query)))


def check(url):
    with urllib.request.urlopen(url.rstrip("/") + "/api/v1/label/__name__/values", timeout=10) as answer:
        known = set(json.load(answer)["data"])
    wanted = {}
    for where, query in [*rule_queries(), *dashboard_queries()]:
        for name in names(query):
            wanted.setdefault(name, where)
    missing = sorted(set(wanted) - known)
    for name in missing:
        print("%s does not exist there (%s)" % (name, wanted[name]))
    print("%d of %d metrics exist" % (len(wanted) - len(missing), len(wanted)))
    return 1 if missing else 0


if sys.argv[1:2] == ["queries"]:
    write_rules()
elif sys.argv[1:2] == ["exist"] and len(sys.argv) == 3:
    sys.exit(check(sys.argv[2]))
else:
    sys.exit(__doc__)
