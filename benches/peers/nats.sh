#!/usr/bin/env bash
# NATS JetStream: three nodes on loopback.
#   nats.sh install | start [default|always] | stop | status | clean
#   nats.sh bench [default|always]   # every workload, twice
#   nats.sh leader NAME | failover
set -u
. "$(dirname "$0")/prepare.sh"
D=$PEERS_WORK/data/nats
URLS=127.0.0.1:4221,127.0.0.1:4222,127.0.0.1:4223
NURL=nats://127.0.0.1:4221,nats://127.0.0.1:4222,nats://127.0.0.1:4223
N="$BIN/nats --no-context -s $NURL"

install() {
  need_go
  need curl curl
  GOBIN=$BIN go install github.com/nats-io/nats-server/v2@${NATS_VERSION:-v2.15.2} || exit 1
  [ "${NO_OFFICIAL:-0}" = 1 ] || GOBIN=$BIN go install github.com/nats-io/natscli/nats@${NATSCLI_VERSION:-latest} || exit 1
  build_probe
  "$BIN/nats-server" --version
}
conf() { # node sync
  cat <<C
server_name: n$1
listen: 127.0.0.1:422$1
http: 127.0.0.1:822$1
pid_file: "$D/n$1.pid"
log_file: "$PEERS_WORK/log/nats-n$1.log"
jetstream { store_dir: "$D/n$1", max_memory_store: 1G, max_file_store: 30G $([ "$2" = always ] && echo ', sync_interval: always') }
cluster { name: peers, listen: 127.0.0.1:622$1, routes: [nats://127.0.0.1:6221, nats://127.0.0.1:6222, nats://127.0.0.1:6223] }
C
}
node() { "$BIN/nats-server" -c "$D/n$1.conf" >/dev/null 2>&1 & }
pids() { local i; for i in 1 2 3; do [ -s "$D/n$i.pid" ] && echo $(cat "$D/n$i.pid"); done | paste -sd, -; }
start() {
  local sync=${1:-default} t i
  mkdir -p "$D"
  for i in 1 2 3; do conf $i "$sync" >"$D/n$i.conf"; done
  t=$(now_ms)
  for i in 1 2 3; do node $i; done
  for i in $(seq 1 600); do # ready: all healthy and the metadata group has a leader
    ok=0
    for k in 1 2 3; do curl -fs "127.0.0.1:822$k/healthz" 2>/dev/null | grep -q '"ok"' && ok=$((ok + 1)); done
    [ $ok = 3 ] && break
    sleep 0.05
  done
  echo "nats $sync ready in $(($(now_ms) - t)) ms (pids $(pids))"
}
stop() { for i in 1 2 3; do stop_pidfile "$D/n$i.pid"; done; }
clean() { stop; rm -rf "$D"; }
P_() { "$BIN/probe" -driver nats -urls $URLS "$@"; }
leader() { P_ -mode leader -topic "$1" | sed -n 's/.*"leader":\([0-9]*\).*/\1/p'; }
# The words that scripts/bench uses, the same for every server.
topic() { P_ -mode create -topic "$1" -parts "$2" >/dev/null; }
drop() { P_ -mode drop -topic "$1" -parts "$2" >/dev/null; }
urls() { echo "$URLS"; }
version() { "$BIN/nats-server" --version; }
victim() { local l; l=$(leader "$1"); echo "$l $(cat "$D/n$l.pid") $URLS"; }
mk() { "$BIN/probe" -driver nats -urls $URLS -mode create -topic "$1" -parts "$2" >/dev/null; }
rm_() { local k; for k in $(seq 0 $(($2 - 1))); do $N stream rm -f "$1-$k" >/dev/null 2>&1; done; }
P() { m "$1" "$(pids)" "$BIN/probe" -driver nats -urls $URLS "${@:2}"; }

bench() { # mode
  local s=$1 r n
  local T=${SECS:-30} L=${LSECS:-15}
  n=1000000; [ "$s" = always ] && n=${NATS_ALWAYS_MSGS:-100000}
  for r in 1 2; do
    # a. produce throughput: the server's own tool, then the probe
    $N stream rm -f bench1 >/dev/null 2>&1
    m "nats/$s/a-1stream-cli" "$(pids)" $N bench js pub async tput --create --replicas=3 --storage=file --maxbytes=8GB --stream=bench1 --size=1024 --msgs=$n --batch=${NATS_BATCH:-2000} --no-progress
    # d. catch-up read of what was just written
    m "nats/$s/d-ordered-cli" "$(pids)" $N bench js ordered --stream=bench1 --msgs=$n --size=1024 --batch=5000 --no-progress
    m "nats/$s/d-fetch-cli" "$(pids)" $N bench js fetch --stream=bench1 --msgs=$n --size=1024 --batch=500 --acks=all --no-progress
    $N consumer rm -f bench1 nats-bench >/dev/null 2>&1
    $N stream rm -f bench1 >/dev/null 2>&1
    mk p1 1;   P "nats/$s/a-1stream-probe" -mode tput -topic p1 -secs $T -window 4000; rm_ p1 1
    mk p12 12; P "nats/$s/a-12streams-probe" -mode tput -topic p12 -parts 12 -secs $T -window 1000; rm_ p12 12
    # b. c. e. latency
    mk lat 1
    for q in ${RATES:-200 1000}; do P "nats/$s/b-rate$q" -mode rate -topic lat -rate $q -secs $L; done
    P "nats/$s/c-sync" -mode sync -topic lat -secs $L
    for q in ${RATES:-200 1000}; do P "nats/$s/e-e2e$q" -mode e2e -topic lat -rate $q -secs $L; done
    rm_ lat 1
    m "nats/$s/c-sync-cli" "$(pids)" $N bench js pub sync tput --create --replicas=3 --storage=file --maxbytes=8GB --stream=bench1 --size=1024 --msgs=${SYNC_MSGS:-3000} --no-progress
    $N stream rm -f bench1 >/dev/null 2>&1
  done
}
failover() { # kill -9 the stream's leader under 200 msg/s, restart it, three times
  local r l
  mk fo 1
  for r in 1 2 3; do
    l=$(leader fo)
    P "nats/${1:-default}/f-failover" -mode failover -topic fo -rate 200 -secs 20 -kill-at 5 -kill-cmd "kill -9 $(cat "$D/n$l.pid")"
    node "$l"; sleep 6
  done
  rm_ fo 1
}
idle() { # g. idle CPU with 1 and with 100 streams
  local s=${1:-default}
  mk idle1 1; sleep 5
  python3 "$HERE/measure.py" --label "nats/$s/g-idle-1" --pids "$(pids)" --out "$RESULTS" --idle 30
  mk idle100 100; sleep 10
  python3 "$HERE/measure.py" --label "nats/$s/g-idle-101" --pids "$(pids)" --out "$RESULTS" --idle 30
  rm_ idle1 1; rm_ idle100 100
}
c=${1:-help}; shift || true
case $c in
install|start|stop|clean|leader|failover|idle|bench|pids|topic|drop|urls|version|victim|node) $c "$@" ;;
status) $N server report jetstream ;;
*) sed -n 2,6p "$0" ;;
esac
