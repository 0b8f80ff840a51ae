#!/bin/sh
# Checks what monitoring reads: every rule's syntax, every alert's firing and resolving (alerts*.test.yml), that no alert
# is without a test, and that every dashboard's queries are PromQL. Needs Go (for promtool, or $PROMTOOL) and python3.
# With PROMETHEUS_URL set, also that every metric which a rule or a dashboard names exists there (metrics.py).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
rules=$here/../base/monitoring
components=$here/../components
promtool=$("$here/promtool.sh")
"$promtool" check rules "$rules"/recording.yml "$rules"/alerts-*.yml "$components"/*/alerts-*.yml
for test in "$here"/*.test.yml; do
    "$promtool" test rules "$test"
done
for alert in $(sed -n 's/^ *- alert: //p' "$rules"/alerts-*.yml "$components"/*/alerts-*.yml); do
    grep -qE "alertname: $alert( |\$)" "$here"/*.test.yml || { echo "alert $alert has no test" >&2; exit 1; }
done
queries=$(mktemp --suffix=.yml)
trap 'rm -f "$queries"' EXIT
python3 "$here/metrics.py" queries > "$queries"
"$promtool" check rules "$queries"
if [ -n "${PROMETHEUS_URL:-}" ]; then
    python3 "$here/metrics.py" exist "$PROMETHEUS_URL"
fi
