#!/usr/bin/env bash
# Apache Kafka (KRaft, three combined broker+controller nodes) on loopback.
#   kafka.sh install | start [default|fsync] | stop | status | clean
#   kafka.sh bench [default|fsync]   # every workload, twice
#   kafka.sh failover [MODE] | idle [MODE]
# fsync = log.flush.interval.messages=1 (an fsync for each appended batch).
set -u
. "$(dirname "$0")/prepare.sh"
D=$PEERS_WORK/data/kafka
K=$PEERS_WORK/kafka
CP="$K/libs/*"
URLS=127.0.0.1:19091,127.0.0.1:19092,127.0.0.1:19093
LOG4J="-Dlog4j2.configurationFile=file:$HERE/kafka-log4j2.xml"
export CLASSPATH=$CP
TOOL="java -Xmx512M $LOG4J org.apache.kafka.tools"

install() {
  need java default-jre-headless
  need mvn maven
  mkdir -p "$K"; cp "$HERE/kafka-pom.xml" "$K/pom.xml"
  (cd "$K" && mvn -B -q dependency:copy-dependencies -DoutputDirectory="$K/libs" ${KAFKA_VERSION:+-Dkafka.version=$KAFKA_VERSION}) || exit 1
  build_probe
}
conf() { # node mode
  cat <<C
process.roles=broker,controller
node.id=$1
listeners=PLAINTEXT://127.0.0.1:1909$1,CONTROLLER://127.0.0.1:1919$1
advertised.listeners=PLAINTEXT://127.0.0.1:1909$1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
controller.quorum.voters=1@127.0.0.1:19191,2@127.0.0.1:19192,3@127.0.0.1:19193
log.dirs=$D/n$1
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
C
  [ "$2" = fsync ] && echo log.flush.interval.messages=1
}
node() {
  java ${KAFKA_HEAP:--Xms1G -Xmx1G} -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
    -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true $LOG4J -cp "$CP" kafka.Kafka "$D/n$1.properties" \
    >>"$PEERS_WORK/log/kafka-n$1.log" 2>&1 &
  echo $! >"$D/n$1.pid"
}
pids() { local i; for i in 1 2 3; do [ -s "$D/n$i.pid" ] && cat "$D/n$i.pid"; done | paste -sd, -; }
start() {
  local mode=${1:-default} t i id=AAAAAAAAQACAAAAAAAAAAQ
  mkdir -p "$D"
  for i in 1 2 3; do
    conf $i "$mode" >"$D/n$i.properties"
    [ -f "$D/n$i/meta.properties" ] || java $LOG4J -cp "$CP" kafka.tools.StorageTool format -t $id -c "$D/n$i.properties" >/dev/null 2>&1
  done
  t=$(now_ms)
  for i in 1 2 3; do node $i; done
  "$BIN/probe" -driver kafka -urls $URLS -mode ready -secs 120 >/dev/null
  echo "kafka $mode ready in $(($(now_ms) - t)) ms (pids $(pids))"
}
stop() { for i in 1 2 3; do stop_pidfile "$D/n$i.pid"; done; }
clean() { for i in 1 2 3; do stop_pidfile "$D/n$i.pid" KILL; done; rm -rf "$D"; }
status() { $TOOL.TopicCommand --bootstrap-server $URLS --describe; }
P_() { "$BIN/probe" -driver kafka -urls $URLS "$@"; }
leader() { P_ -mode leader -topic "$1" | sed -n 's/.*"leader":\([0-9]*\).*/\1/p'; }
# The words that scripts/bench uses, the same for every server.
topic() { P_ -mode create -topic "$1" -parts "$2" >/dev/null; }
drop() { P_ -mode drop -topic "$1" -parts "$2" >/dev/null; }
urls() { echo "$URLS"; }
version() { ls "$K/libs" | sed -n "s/^kafka_[0-9.]*-\\(.*\\)\\.jar/Kafka \\1/p" | head -n 1; }
victim() { local l; l=$(leader "$1"); echo "$l $(cat "$D/n$l.pid") $URLS"; }
mk() { "$BIN/probe" -driver kafka -urls $URLS -mode create -topic "$1" -parts "$2" >/dev/null; sleep 1; }
rm_() { $TOOL.TopicCommand --bootstrap-server $URLS --delete --topic "$1" >/dev/null 2>&1; sleep 1; }
P() { m "$1" "$(pids)" "$BIN/probe" -driver kafka -urls $URLS "${@:2}"; }

bench() {
  local s=${1:-default} r n=${MSGS:-1000000} p q T=${SECS:-30} L=${LSECS:-15}
  local props="bootstrap.servers=$URLS acks=all compression.type=none"
  local big="linger.ms=5 batch.size=262144 buffer.memory=134217728 max.request.size=2097152"
  for r in 1 2; do
    for p in 1 12; do
      mk t$p-$r $p # a, d
      m "kafka/$s/a-${p}part-official" "$(pids)" $TOOL.ProducerPerformance --topic t$p-$r --num-records $n --record-size 1024 --throughput -1 --command-property $props $big
      m "kafka/$s/d-${p}part-official" "$(pids)" $TOOL.ConsumerPerformance --bootstrap-server $URLS --topic t$p-$r --num-records $n --group g$p-$r --timeout 60000
      rm_ t$p-$r
      mk p$p-$r $p
      P "kafka/$s/a-${p}part-probe" -mode tput -topic p$p-$r -parts $p -secs $T -window $([ $p = 1 ] && echo 4000 || echo 1000)
      P "kafka/$s/d-${p}part-probe" -mode consume -topic p$p-$r -parts $p -count ${RD:-1000000} -secs 60
      rm_ p$p-$r
    done
    mk lat-$r 1 # b, c, e
    for q in ${RATES:-200 1000}; do P "kafka/$s/b-rate$q" -mode rate -topic lat-$r -rate $q -secs $L; done
    m "kafka/$s/b-rate1000-official" "$(pids)" $TOOL.ProducerPerformance --topic lat-$r --num-records 17000 --warmup-records 2000 --record-size 1024 --throughput 1000 --command-property $props linger.ms=0
    P "kafka/$s/c-sync" -mode sync -topic lat-$r -secs $L
    for q in ${RATES:-200 1000}; do P "kafka/$s/e-e2e$q" -mode e2e -topic lat-$r -rate $q -secs $L; done
    rm_ lat-$r
    mk e2e-$r 1
    m "kafka/$s/e-EndToEndLatency" "$(pids)" $TOOL.EndToEndLatency $URLS e2e-$r ${E2E_MSGS:-5000} all 1024
    rm_ e2e-$r
  done
}
failover() { # kill -9 the partition's leader under 200 msg/s, restart it, three times
  local r l
  mk fo 1
  for r in 1 2 3; do
    l=$(leader fo)
    P "kafka/${1:-default}/f-failover" -mode failover -topic fo -rate 200 -secs 30 -kill-at 5 -kill-cmd "kill -9 $(cat "$D/n$l.pid")"
    node $l; sleep 12
  done
  rm_ fo
}
idle() { # g. idle CPU with 1 and with 101 partitions
  local s=${1:-default}
  mk idle1 1; sleep 15
  python3 "$HERE/measure.py" --label "kafka/$s/g-idle-1" --pids "$(pids)" --out "$RESULTS" --idle 30
  mk idle100 100; sleep 20
  python3 "$HERE/measure.py" --label "kafka/$s/g-idle-101" --pids "$(pids)" --out "$RESULTS" --idle 30
  rm_ idle1; rm_ idle100
}
c=${1:-help}; shift || true
case $c in
install|start|stop|clean|leader|failover|idle|bench|pids|status|topic|drop|urls|version|victim|node) $c "$@" ;;
*) sed -n 2,7p "$0" ;;
esac
