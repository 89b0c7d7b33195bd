# Sourced by the other scripts. Everything is written under PEERS_WORK.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PEERS_WORK=${PEERS_WORK:-$HOME/.cache/peers}
BENCH_LOCK=${BENCH_LOCK:-${TMPDIR:-/tmp}/bench.lock}   # taken for each measured run
RESULTS=${RESULTS:-$PEERS_WORK/results.jsonl}
export PEERS_WORK BENCH_LOCK RESULTS
BIN=$PEERS_WORK/bin
mkdir -p "$BIN" "$PEERS_WORK/log" "$PEERS_WORK/data"

now_ms() { date +%s%3N; }

# need COMMAND PACKAGE...: installs Debian's packages where the command is missing, or says what to do.
need() {
  local c=$1; shift
  command -v "$c" >/dev/null && return
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || { echo "please install: $*" >&2; exit 1; }
  apt-get install -y --no-install-recommends "$@" >&2 || { apt-get update >&2 && apt-get install -y --no-install-recommends "$@" >&2; } || exit 1
}

need_go() {
  local wanted; wanted=$(sed -n 's/^go //p' "$HERE/probe/go.mod")
  command -v go >/dev/null && (cd "$HERE/probe" && go version >/dev/null 2>&1) && return
  echo "go $wanted or newer is missing: unpack it from https://go.dev/dl and put its bin directory on the PATH" >&2
  exit 1
}

build_probe() {
  need_go
  need protoc protobuf-compiler libprotobuf-dev
  "$HERE/probe/generate" "$BIN" || exit 1
  (cd "$HERE/probe" && go vet . && go test . >&2 && go build -o "$BIN/probe" .) || exit 1
}

# stop_pidfile FILE [SIGNAL]: end one server that we started, by its id
stop_pidfile() {
  local f=$1 sig=${2:-TERM} p i
  [ -s "$f" ] || return 0
  p=$(cat "$f")
  kill -"$sig" "$p" 2>/dev/null || { rm -f "$f"; return 0; }
  for i in $(seq 1 150); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
  kill -0 "$p" 2>/dev/null && kill -KILL "$p" 2>/dev/null
  rm -f "$f"
}

# m LABEL PIDS CMD...: one measured run under the lock, with the servers' CPU,
# memory and disk writes; appends a JSON line to RESULTS
# (NO_OFFICIAL=1 skips the runs of each server's own tools)
m() {
  local l=$1 p=$2; shift 2
  case ${NO_OFFICIAL:-0}$l in 1*-official|1*-cli|1*EndToEndLatency) return ;; esac
  python3 "$HERE/measure.py" --label "$l" --pids "$p" --out "$RESULTS" -- "$@"
}
