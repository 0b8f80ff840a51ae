#!/bin/sh
# Prints the path of promtool: $PROMTOOL, or the one of our Prometheus' own version, built once from the same Go module.
set -eu
[ -z "${PROMTOOL:-}" ] || { echo "$PROMTOOL"; exit 0; }
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
module=$here/../../kubernetes/prometheus
cache=${METTLE_CACHE:-$HOME/.cache/mettle}
PATH=$PATH:$cache/go/bin
built=$cache/tools/promtool-$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-12)
if [ ! -x "$built" ]; then
    echo "promtool: building it from its Go module, once (1 to 3 minutes on two cores)" >&2
    mkdir -p "$cache/tools"
    (cd "$module" && CGO_ENABLED=0 go build -trimpath -tags remove_all_sd,enable_kubernetes_sd -ldflags '-s -w' \
        -o "$built.new" github.com/prometheus/prometheus/cmd/promtool)
    mv -f "$built.new" "$built"
fi
echo "$built"
