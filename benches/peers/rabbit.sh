#!/usr/bin/env bash
# RabbitMQ quorum queues: three nodes on one host (Debian's rabbitmq-server, PerfTest).
#   rabbit.sh install | start | stop | status | clean | bench | failover | idle
# Quorum queues always fsync their log before confirming, so there is one mode.
set -u
. "$(dirname "$0")/prepare.sh"
D=$PEERS_WORK/data/rabbit
K=$PEERS_WORK/rabbit
URLS=127.0.0.1:5672,127.0.0.1:5673,127.0.0.1:5674
AURLS=amqp://guest:guest@127.0.0.1:5672
SB=$(dpkg -L rabbitmq-server 2>/dev/null | grep 'rabbitmq_server-[^/]*/sbin$')
export CLASSPATH="$K/libs/*"
PT="java -Xmx1G com.rabbitmq.perf.PerfTest"
export HOME_REAL=$HOME ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=${RABBIT_EPMD_PORT:-14369}

install() {
  command -v rabbitmqctl >/dev/null || { apt-get update -qq; apt-get install -y --no-install-recommends rabbitmq-server; }
  [ "${NO_OFFICIAL:-0}" = 1 ] || {
    need java default-jre-headless
    need mvn maven
    mkdir -p "$K"; cp "$HERE/rabbit-pom.xml" "$K/pom.xml"
    (cd "$K" && mvn -B -q dependency:copy-dependencies -DoutputDirectory="$K/libs")
  }
  build_probe
}
env_() { # node: settings for one node
  export HOME=$D RABBITMQ_NODENAME=rabbit$1@localhost RABBITMQ_NODE_PORT=567$(($1 + 1)) RABBITMQ_DIST_PORT=2567$(($1 + 1)) \
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_MNESIA_BASE=$D/n$1 RABBITMQ_LOG_BASE=$PEERS_WORK/log/rabbit-n$1 \
    RABBITMQ_PID_FILE=$D/n$1.pid RABBITMQ_CONFIG_FILE=$D/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$D/plugins \
    RABBITMQ_CONF_ENV_FILE=$D/none RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
}
ctl() { (env_ 1; "$SB/rabbitmqctl" -n "rabbit${CTLN:-1}@localhost" "$@"); }
node() { (env_ $1; mkdir -p "$RABBITMQ_LOG_BASE"; exec "$SB/rabbitmq-server" >"$PEERS_WORK/log/rabbit-n$1.out" 2>&1) & }
pids() { local i; for i in 1 2 3; do [ -s "$D/n$i.pid" ] && echo $(cat "$D/n$i.pid"); done | paste -sd, -; }
start() {
  local i t
  mkdir -p "$D"; echo '[].' >"$D/plugins"
  [ -s "$D/.erlang.cookie" ] || { head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$D/.erlang.cookie"; chmod 600 "$D/.erlang.cookie"; }
  cat >"$D/rabbitmq.conf" <<C
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = rabbit1@localhost
cluster_formation.classic_config.nodes.2 = rabbit2@localhost
cluster_formation.classic_config.nodes.3 = rabbit3@localhost
vm_memory_high_watermark.absolute = 4GB
disk_free_limit.absolute = 1GB
log.file.level = warning
C
  epmd -address 127.0.0.1 -port $ERL_EPMD_PORT >/dev/null 2>&1 & echo $! >"$D/epmd.pid"
  t=$(now_ms)
  for i in 1 2 3; do node $i; done
  for i in $(seq 1 200); do [ "$(ctl eval 'length(rabbit_nodes:all_running()).' 2>/dev/null)" = 3 ] && break; sleep 0.2; done
  for i in 1 2 3; do (env_ $i; "$SB/rabbitmqctl" -n rabbit$i@localhost await_startup >/dev/null 2>&1); done
  echo "rabbit ready in $(($(now_ms) - t)) ms (pids $(pids))"
}
stop() { local i; for i in 1 2 3; do stop_pidfile "$D/n$i.pid"; done; stop_pidfile "$D/epmd.pid"; }
clean() { local i; for i in 1 2 3; do stop_pidfile "$D/n$i.pid" KILL; done; stop_pidfile "$D/epmd.pid"; rm -rf "$D"; }
status() { ctl cluster_status; ctl list_queues name type messages leader members online; }
leader() { CTLN=${2:-1} ctl list_queues name leader --silent 2>/dev/null | awk -v q="$1" '$1 == q { sub(/@.*/, "", $2); sub(/rabbit/, "", $2); print $2 }'; }
P_() { "$BIN/probe" -driver amqp -urls $URLS "$@"; }
# The words that scripts/bench uses, the same for every server.
topic() { P_ -mode create -topic "$1" -parts "$2" >/dev/null; }
drop() { P_ -mode drop -topic "$1" -parts "$2" >/dev/null; }
urls() { echo "$URLS"; }
version() { dpkg-query -W -f 'RabbitMQ ${Version}\n' rabbitmq-server; }
victim() { # the producer is connected to a node that is not killed
  local l o
  for o in 1 2 3; do l=$(leader "$1-0" $o); [ -n "$l" ] && break; done
  echo "$l $(cat "$D/n$l.pid") $(for o in 1 2 3; do [ $o != "$l" ] && echo 127.0.0.1:567$((o + 1)); done | paste -sd, -)"
}
mk() { "$BIN/probe" -driver amqp -urls $URLS -mode create -topic "$1" -parts "$2" >/dev/null; }
rm_() { local k; for k in $(seq 0 $(($2 - 1))); do ctl eval "{ok,Q}=rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>,queue,<<\"$1-$k\">>)), rabbit_amqqueue:delete(Q,false,false,<<\"p\">>)." >/dev/null 2>&1; done; }
P() { m "$1" "$(pids)" "$BIN/probe" -driver amqp -urls "${AU:-$URLS}" "${@:2}"; }

bench() {
  local r q T=${SECS:-30} L=${LSECS:-15} s=quorum
  for r in 1 2; do
    m "rabbit/$s/a-1queue-official" "$(pids)" $PT --uri $AURLS --quorum-queue --queue pt-$r --size 1024 --confirm 2000 --producers 1 --consumers 0 --flag persistent --time $T
    m "rabbit/$s/d-1queue-official" "$(pids)" $PT --uri $AURLS --quorum-queue --queue pt-$r --producers 0 --consumers 1 --qos 2000 --multi-ack-every 200 --exit-when empty --time 120
    ctl delete_queue pt-$r >/dev/null 2>&1
    mk p1-$r 1;   P "rabbit/$s/a-1queue-probe" -mode tput -topic p1-$r -secs $T -window 4000
    P "rabbit/$s/d-1queue-probe" -mode consume -topic p1-$r -count ${RD:-200000} -secs 60; rm_ p1-$r 1
    mk p12-$r 12; P "rabbit/$s/a-12queues-probe" -mode tput -topic p12-$r -parts 12 -secs $T -window 1000; rm_ p12-$r 12
    mk lat-$r 1
    for q in ${RATES:-200 1000}; do P "rabbit/$s/b-rate$q" -mode rate -topic lat-$r -rate $q -secs $L; done
    P "rabbit/$s/c-sync" -mode sync -topic lat-$r -secs $L
    rm_ lat-$r 1
    for q in ${RATES:-200 1000}; do mk e2e$q-$r 1; P "rabbit/$s/e-e2e$q" -mode e2e -topic e2e$q-$r -rate $q -secs $L; rm_ e2e$q-$r 1; done
  done
}
failover() { # the producer is connected to a node that is not killed
  local r l o a
  mk fo 1
  for r in 1 2 3; do
    for o in 1 2 3; do l=$(leader fo-0 $o); [ -n "$l" ] && break; done
    a=$(for o in 1 2 3; do [ $o != "$l" ] && echo 127.0.0.1:567$((o + 1)); done | paste -sd, -)
    AU=$a P "rabbit/quorum/f-failover" -mode failover -topic fo -rate 200 -secs 30 -kill-at 5 -kill-cmd "kill -9 $(cat "$D/n$l.pid")"
    node $l; sleep 15
  done
  rm_ fo 1
}
idle() {
  mk idle1 1; sleep 10
  python3 "$HERE/measure.py" --label "rabbit/quorum/g-idle-1" --pids "$(pids)" --out "$RESULTS" --idle 30
  mk idle100 100; sleep 15
  python3 "$HERE/measure.py" --label "rabbit/quorum/g-idle-101" --pids "$(pids)" --out "$RESULTS" --idle 30
}
c=${1:-help}; shift || true
case $c in
install|start|stop|clean|leader|failover|idle|bench|pids|status|ctl|topic|drop|urls|version|victim|node) $c "$@" ;;
*) sed -n 2,4p "$0" ;;
esac
