#!/usr/bin/env bash
# Flotilla: three nodes on loopback, with the settings they have by default (but for the free disk they ask for).
#   flotilla.sh install | start | stop | status | clean | pids
#   flotilla.sh topic NAME PARTS | drop NAME PARTS | leader NAME
# An acknowledgement always means a majority has synced, so there is one mode.
set -u
. "$(dirname "$0")/prepare.sh"
ROOT=$(cd "$HERE/../.." && pwd)
export FLOTILLA_STATE=$PEERS_WORK/data/flotilla FLOTILLA_PORT=${FLOTILLA_BENCH_PORT:-17401}
URLS=127.0.0.1:$FLOTILLA_PORT,127.0.0.1:$((FLOTILLA_PORT + 1)),127.0.0.1:$((FLOTILLA_PORT + 2))
CLUSTER=$ROOT/scripts/cluster

GIVEN=${FLOTILLA_BIN:-} # binaries that are there already; else they are built
install() {
  (FLOTILLA_BIN=$GIVEN; . "$ROOT/scripts/prepare" && build_binaries && command install -t "$BIN" "$bin/flotilla" "$bin/flotilla-server") || exit 1
  build_probe
}
export FLOTILLA_BIN=$BIN
P_() { "$BIN/probe" -driver flotilla -urls $URLS "$@"; }
start() {
  local t; t=$(now_ms)
  "$CLUSTER" up 3 2>/dev/null || { "$CLUSTER" up; exit 1; }
  P_ -mode ready -secs 60 >/dev/null || exit 1
  echo "flotilla ready in $(($(now_ms) - t)) ms (pids $(pids))"
}
stop() { "$CLUSTER" down; }
clean() { "$CLUSTER" down --wipe; }
status() { "$CLUSTER" status; }
pids() { local i; for i in 1 2 3; do cat "$FLOTILLA_STATE/node-$i/pid" 2>/dev/null; done | paste -sd, -; }
leader() { P_ -mode leader -topic "$1" | sed -n 's/.*"leader":\([0-9]*\).*/\1/p'; }
# The words that scripts/bench uses, the same for every server.
topic() { P_ -mode create -topic "$1" -parts "$2" >/dev/null; }
drop() { P_ -mode drop -topic "$1" -parts "$2" >/dev/null; }
urls() { echo "$URLS"; }
version() { echo "Flotilla $(git -C "$ROOT" describe --always --dirty 2>/dev/null || echo of unknown commit)"; }
victim() { local l; l=$(leader "$1"); echo "$l $(cat "$FLOTILLA_STATE/node-$l/pid") $URLS"; }
node() { "$CLUSTER" up 2>/dev/null; }
c=${1:-help}; shift || true
case $c in
install|start|stop|clean|leader|pids|status|topic|drop|urls|version|victim|node) $c "$@" ;;
*) sed -n 2,5p "$0" ;;
esac
