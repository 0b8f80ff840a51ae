#!/bin/sh
# Make the root file system that `localhost/mettle/debian:bookworm` is imported from, without Docker and without a
# registry. Needs mmdebstrap and root (or a user namespace). Usage: rootfs.sh OUT.tar
#
# - `--variant=apt`: the essential packages and apt, nothing else.
# - merged-usr hook + usr-is-merged: the usual `usrmerge` would pull in all of perl (58 MB).
# - dates of the archive are not checked, so that a frozen mirror works too; signatures always are.
set -eu
out=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
exec mmdebstrap --variant=apt --mode=auto --format=tar \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=usr-is-merged \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='Acquire::Check-Date "false"' \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt="$here/dpkg-slim.conf" \
    bookworm "$out"
