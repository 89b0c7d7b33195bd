#!/usr/bin/env python3
"""Runs Flotilla and its peers one after the other, round by round, and writes a page of medians.

Called by scripts/bench, which installs what is needed. In each round every server is started anew with
empty data, does the same work, and is removed; who comes first changes from round to round. A run during
which the disk or the neighbours were not quiet is marked and repeated. All runs, also the marked ones, are
kept as lines of JSON beside the page's figures.
"""
import argparse, json, os, platform, re, socket, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.environ.get("PEERS_WORK", os.path.expanduser("~/.cache/peers"))
PROBE = os.path.join(WORK, "bin", "probe")

# name: script, mode, driver, how it stands in the tables, what an acknowledgement means
SERVERS = {
    "flotilla": ("flotilla.sh", "", "flotilla", "Flotilla", "synced on a majority before every answer"),
    "flotilla-rust": ("flotilla.sh", "", "flotilla", "Flotilla, Rust client", "the same; the load comes from `flotilla bench`"),
    "kafka-fsync": ("kafka.sh", "fsync", "kafka", "Kafka, fsync per append",
                    "RF 3, min ISR 2, acks=all, `log.flush.interval.messages=1`: synced on all in-sync replicas"),
    "nats-always": ("nats.sh", "always", "nats", "NATS JetStream, sync always", "R3, file storage, `sync_interval: always`"),
    "rabbit": ("rabbit.sh", "", "amqp", "RabbitMQ quorum queue", "quorum of 3, persistent, publisher confirms; its log is synced before the confirm"),
    "kafka-default": ("kafka.sh", "default", "kafka", "Kafka, default", "RF 3, min ISR 2, acks=all; in the memory of the replicas, not synced"),
    "nats-default": ("nats.sh", "default", "nats", "NATS JetStream, default", "R3, file storage; synced every two minutes"),
}

a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
a.add_argument("--rounds", type=int, default=3)
a.add_argument("--seconds", type=float, default=20, help="of a throughput run")
a.add_argument("--latency-seconds", type=float, default=20)
a.add_argument("--idle-seconds", type=float, default=30)
a.add_argument("--servers", default=",".join(SERVERS))
a.add_argument("--works", default="", help="only these, by letter")
a.add_argument("--repeats", type=int, default=2, help="of a run that was not quiet")
a.add_argument("--page", required=True)
a.add_argument("--runs", required=True, help="file for one line of JSON a run")
a.add_argument("--command", default="scripts/bench")
a.add_argument("--page-only", action="store_true", help="write the page from the runs that are there")
o = a.parse_args()
S, L = o.seconds, o.latency_seconds

# letter: title, figures of the table (key, title, digits), whether more is better
RATE = [("msg_per_s", "records/s", 0), ("MB_per_s", "MB/s", 1)]
TIMES = [("p50_ms", "p50 ms", 2), ("p99_ms", "p99 ms", 2), ("p999_ms", "p99.9 ms", 1)]
WORKS = {
    "a1": ("Batched produce, 1 partition, 4,000 records in flight", RATE),
    "a12": ("Batched produce, 12 partitions, 1,000 records in flight each", RATE),
    "c": ("One record in flight", [("msg_per_s", "records/s", 0)] + TIMES[:2]),
    "b": ("Produce at 1,000 records/s, from due to acknowledged", TIMES),
    "e": ("End to end at 1,000 records/s, from due to read", TIMES),
    "d1": ("Catch-up read, 1 partition", RATE),
    "d12": ("Catch-up read, 12 partitions", RATE),
    "f": ("Leader killed (SIGKILL) at 200 records/s", [("longest_ack_gap_ms", "longest gap ms", 0), ("p99_ms", "p99 ms", 1)]),
    "g": ("Idle with 100 partitions", [("cpu_pct", "CPU % of a core, per node", 2), ("rss_mb", "memory MB, per node", 0)]),
}
wanted = [w for w in o.works.split(",") if w] or list(WORKS)
servers = [s for s in o.servers.split(",") if s]
for s in servers:
    s in SERVERS or sys.exit(f"no server {s!r}; there are {', '.join(SERVERS)}")
for w in wanted:
    w in WORKS or sys.exit(f"no work {w!r}; there is {', '.join(WORKS)}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def script(server, *words, check=True, within=300):
    name, mode = SERVERS[server][:2]
    words = [mode if w == "MODE" else w for w in words]
    # To a file, not a pipe: servers that are started keep it open.
    with open(os.path.join(WORK, "script.out"), "w+") as out:
        done = subprocess.run([os.path.join(HERE, name), *[w for w in words if w]], stdout=out,
                              stderr=open(os.path.join(WORK, "log", "scripts.log"), "a"), timeout=within)
        out.seek(0)
        text = out.read().strip()
    if check and done.returncode:
        raise RuntimeError(f"{name} {' '.join(words)}: exit code {done.returncode}; see {WORK}/log")
    return text


def probe(server, *words, urls=None):
    return [PROBE, "-driver", SERVERS[server][2], "-urls", urls or script(server, "urls"), *map(str, words)]


def measured(label, server, command, idle=0):
    """One run with what the servers used, the disk before and after, and the neighbours."""
    pids = script(server, "pids")
    out = os.path.join(WORK, "one.jsonl")
    if os.path.exists(out):
        os.unlink(out)
    how = ["--idle", str(idle)] if idle else ["--", *command]
    subprocess.run([sys.executable, os.path.join(HERE, "measure.py"), "--label", label, "--pids", pids, "--out", out, *how],
                   check=True, stdout=subprocess.DEVNULL)
    return json.loads(open(out).read())


def load(server, mode, topic, parts=1, secs=None, count=0, kill="", urls=None):
    """The command of one run."""
    window = 4000 if parts == 1 else 1000
    if server != "flotilla-rust":
        words = ["-mode", mode, "-topic", topic, "-parts", parts, "-secs", secs, "-window", window, "-rate", 200 if kill else 1000]
        return probe(server, *words, *(["-count", count] if count else []), *(["-kill-at", 4, "-kill-cmd", kill] if kill else []), urls=urls)
    flat, paced = ["--rate", 0, "--window"], ["--duration", f"{secs:g}s"]
    words = {"tput": ["produce", topic, *paced, *flat, window], "sync": ["produce", topic, *paced, *flat, 1],
             "rate": ["produce", topic, *paced, "--rate", 1000], "e2e": ["e2e", topic, *paced, "--rate", 1000],
             "consume": ["consume", topic, "--records", count, *paced],
             "failover": ["failover", topic, *paced, "--rate", 200, "--kill-at", "4s", "--kill", kill]}[mode]
    return [os.path.join(WORK, "bin", "flotilla"), "--no-progress", "--endpoints", script(server, "urls"), "bench", *map(str, words), "-o", "jsonl"]


def same_words(run):
    """The report of `flotilla bench` in the words of the probe."""
    p = run.get("probe")
    if p is None or "reached_rate" not in p:
        return
    q = {"mode": p["mode"], "size": 1024, "acked": p["records"], "read": p["records"], "errors": p["failed"] + p["unknown"],
         "msg_per_s": p["reached_rate"], "MB_per_s": p["reached_rate"] * 1024 / 1e6, "longest_ack_gap_ms": p["longest_gap_ms"]}
    if p["latency_us"]:
        q.update({f"{name}_ms": p["latency_us"][name] / 1000 for name in ("p50", "p95", "p99", "p999", "max")})
    if p["mode"] == "e2e":
        q["got"] = q["acked"]
    run["probe"] = q


def fsync_us():
    """Median of 150 synced appends of 4 KiB where the servers' data is."""
    path, times, block = os.path.join(WORK, "data", "disk.probe"), [], os.urandom(4096)
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC)
    for i in range(150):
        t = time.perf_counter()
        os.pwrite(fd, block, i * 4096)
        os.fdatasync(fd)
        times.append(time.perf_counter() - t)
    os.close(fd)
    os.unlink(path)
    return round(statistics.median(times) * 1e6)


def noise(run, calm):
    """Why this run is not to be trusted, or nothing."""
    why, wall = [], run["wall_s"]
    before, after = run["disk_fsync_us_before_after"]
    if max(before, after) > 2 * calm:
        why.append(f"disk {before}/{after} us, calm {calm}")
    if run["foreign_cpu_s"] > 0.1 * wall:
        why.append(f"others used {100 * run['foreign_cpu_s'] / wall:.0f} % of a core")
    if run["steal_s"] > 0.05 * wall:
        why.append(f"{100 * run['steal_s'] / wall:.0f} % stolen")
    return why


def fill(server, topic, parts):
    script(server, "topic", topic, str(parts))
    subprocess.run(probe(server, "-mode", "tput", "-topic", topic, "-parts", parts, "-secs", S, "-window", 4000 if parts == 1 else 1000),
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def one(server, work, round_, attempt):
    """One run of one work; topics are named by round and attempt, so that each begins empty."""
    tag, label = f"{work}-{round_}-{attempt}", f"{server}/{work}"
    parts = 12 if work.endswith("12") else 1
    if work in ("a1", "a12"):
        script(server, "topic", tag, str(parts))
        run = measured(label, server, load(server, "tput", tag, parts, S))
        script(server, "drop", tag, str(parts), check=False)
    elif work in ("d1", "d12"):
        fill(server, tag, parts)
        run = measured(label, server, load(server, "consume", tag, parts, 60, count=o_read(server)))
        script(server, "drop", tag, str(parts), check=False)
    elif work == "g":
        script(server, "topic", tag, "100")
        time.sleep(min(15, o.idle_seconds))
        run = measured(label, server, [], idle=o.idle_seconds)
        run["probe"] = {"cpu_pct": statistics.mean(x for x in run["server_cpu_pct_of_core"] if x is not None),
                        "rss_mb": statistics.mean(run["rss_peak_mb"])}
        script(server, "drop", tag, "100", check=False)
    elif work == "f":
        script(server, "topic", tag, "1")
        time.sleep(1)
        node, pid, urls = script(server, "victim", tag).split()
        run = measured(label, server, load(server, "failover", tag, 1, max(L, 12), kill=f"kill -9 {pid}", urls=urls))
        script(server, "node", node, check=False)
        listening(script(server, "urls"))
        time.sleep(5)
    else:
        mode = {"b": "rate", "c": "sync", "e": "e2e"}[work]
        script(server, "topic", tag, "1")
        run = measured(label, server, load(server, mode, tag, 1, L))
        script(server, "drop", tag, "1", check=False)
    same_words(run)
    return run


def listening(urls, within=60):
    """Waits until every node takes connections again."""
    end = time.time() + within
    for host, port in (url.rsplit(":", 1) for url in urls.split(",")):
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                if time.time() > end:
                    raise RuntimeError(f"{host}:{port} takes no connections {within} s after the restart")
                time.sleep(0.1)


def o_read(server):
    # Less than what the slowest writes in the time there is, so that every reader finds as much.
    return int((3_000 if server == "rabbit" else 10_000) * S)


def failed(run):
    p = run.get("probe")
    if run["rc"] or p is None:
        return "; ".join(run.get("tail", []))[-300:] or f"exit code {run['rc']}"
    if p.get("errors") or p.get("unfinished"):
        return f"{p.get('errors', 0)} errors{', unfinished' if p.get('unfinished') else ''}"
    if p.get("mode") == "consume" and not p.get("read"):
        return "nothing was read"
    if p.get("mode") == "e2e" and p.get("got", 0) < p.get("acked", 0):
        return f"{p['acked'] - p['got']} acknowledged records were not read"
    return None


def all_rounds():
    os.makedirs(os.path.join(WORK, "log"), exist_ok=True)
    os.makedirs(os.path.join(WORK, "data"), exist_ok=True)
    calm = min(fsync_us() for _ in range(5))
    keep = open(o.runs, "w")

    def note(kind, **what):
        keep.write(json.dumps({"kind": kind, **what}) + "\n")
        keep.flush()

    note("machine", calm=calm, **machine())
    for round_ in range(o.rounds):
        turn = round_ % len(servers)
        for server in servers[turn:] + servers[:turn]:
            say(f"round {round_ + 1} of {o.rounds}: {SERVERS[server][3]}")
            try:
                script(server, "clean", check=False)
                script(server, "start", "MODE")
                if round_ == 0:
                    note("version", server=server, version=script(server, "version"))
                for work in wanted:
                    for attempt in range(o.repeats + 1):
                        try:
                            run = one(server, work, round_, attempt)
                        except (RuntimeError, subprocess.SubprocessError, ValueError) as e:
                            note("broken", server=server, work=work, round=round_, why=str(e))
                            say(f"  {work}: {e}")
                            break
                        why, bad = noise(run, calm), failed(run)
                        note("run", server=server, work=work, round=round_, attempt=attempt, noisy=why, failed=bad, **run)
                        shown = ", ".join(f"{title} {run['probe'][key]:.{digits}f}" for key, title, digits in WORKS[work][1]
                                          if not bad and key in run["probe"])
                        say(f"  {work}: {shown or bad}{'  NOT QUIET: ' + ', '.join(why) if why else ''}")
                        if not why:
                            break
                        time.sleep(min(5, S))
            except (RuntimeError, subprocess.SubprocessError) as e:
                note("broken", server=server, work="start", round=round_, why=str(e))
                say(f"  {e}")
            finally:
                script(server, "stop", check=False)
                script(server, "clean", check=False)


def machine():
    def first(path, pattern):
        try:
            return re.search(pattern, open(path).read(), re.M).group(1).strip()
        except (OSError, AttributeError):
            return "unknown"

    def told(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=HERE).stdout.strip() or "unknown"
        except OSError:
            return "unknown"

    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, cwd=HERE).stdout
    memory = first("/proc/meminfo", r"MemTotal:\s+(\d+)")
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": told("git", "rev-parse", "--short=12", "HEAD") + (" with changes" if changed else ""),
        "cpu": first("/proc/cpuinfo", r"model name\s*:\s*(.*)"), "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20) if memory.isdigit() else memory,
        "kernel": platform.release(), "filesystem": told("df", "--output=fstype", WORK).split()[-1],
        "command": o.command, "rounds": o.rounds, "seconds": S, "latency_seconds": L,
    }


def page():
    lines = [json.loads(l) for l in open(o.runs)]
    m = next(l for l in lines if l["kind"] == "machine")
    versions = {l["server"]: l["version"] for l in lines if l["kind"] == "version"}
    runs = [l for l in lines if l["kind"] == "run"]
    here = [s for s in SERVERS if any(r["server"] == s for r in runs)]
    out = ["# Benchmarks", "",
           "Written by `scripts/bench`; do not edit. Three nodes, the load and one disk share one machine, so these figures compare servers "
           "under equal conditions. They are no measure of what each can do on machines of its own.", ""]
    out += [f"- When: {m['at']}, commit {m['commit']}", f"- Command: `{m['command']}`",
            f"- Machine: {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, Linux {m['kernel']}, {m['filesystem']}; "
            f"one synced append of 4 KiB takes {m['calm']} µs when the disk is calm",
            f"- Each figure: median of {m['rounds']} rounds (lowest–highest). Records of 1 KiB that do not compress, replication 3; runs of {m['seconds']:g} s, "
            f"latency runs of {m['latency_seconds']:g} s. Every server is started anew in each round and is alone while it runs; who is first changes.",
            "- A run during which a synced append took twice as long, or others used more than a tenth of a core, is not counted if it could be repeated in quiet; "
            "† marks figures from runs that were not quiet. Latency counts from when a record was due.", ""]
    out += ["| server | version | acknowledged means |", "| --- | --- | --- |"]
    out += [f"| {SERVERS[s][3]} | {versions.get(s, '?')} | {SERVERS[s][4]} |" for s in here]

    def counted(server, work):
        mine = [r for r in runs if r["server"] == server and r["work"] == work and not r["failed"]]
        quiet = [r for r in mine if not r["noisy"]]
        rounds = {r["round"] for r in mine}
        if {r["round"] for r in quiet} == rounds:
            return quiet, ""
        last = {r["round"]: r for r in mine if r["round"] not in {q["round"] for q in quiet}}
        return quiet + list(last.values()), "†"

    def figure(server, work, key, digits):
        rs, mark = counted(server, work)
        v = [r["probe"][key] for r in rs if key in r["probe"]]
        if not v:
            return None, "–"
        middle, f = statistics.median(v), lambda x: f"{x:,.{digits}f}"
        spread = f" ({f(min(v))}–{f(max(v))})" if len(v) > 1 else ""
        return middle, f(middle) + spread + mark

    for work, (title, figures) in WORKS.items():
        if not any(r["work"] == work for r in runs):
            continue
        key, _, digits = figures[0]
        ours = figure("flotilla", work, key, digits)[0]
        out += ["", f"## {title}", "", f"| server | {' | '.join(t for _, t, _ in figures)} | Flotilla's {figures[0][1]} is |",
                "| --- |" + " ---: |" * (len(figures) + 1)]
        for s in here:
            theirs = figure(s, work, key, digits)[0]
            ratio = f"{ours / theirs:.2f} ×" if ours and theirs and not s.startswith("flotilla") else ""
            out.append(f"| {SERVERS[s][3]} | {' | '.join(figure(s, work, k, d)[1] for k, _, d in figures)} | {ratio} |")
    out += ["", "## What it cost", "", "During batched produce to 12 partitions (all three nodes together; written: the node that wrote most).", "",
            "| server | CPU seconds per million records, servers | client | peak memory MB, largest node | bytes written per payload byte |", "| --- | ---: | ---: | ---: | ---: |"]
    for s in here:
        rs, mark = counted(s, "a12")
        cells = []
        for of in (lambda r: sum(x or 0 for x in r["server_cpu_s"]) / r["probe"]["acked"] * 1e6, lambda r: r["client_cpu_s"] / r["probe"]["acked"] * 1e6,
                   lambda r: max(r["rss_peak_mb"]), lambda r: max(r["write_mb"]) * 1e6 / (r["probe"]["acked"] * r["probe"]["size"])):
            v = [of(r) for r in rs if r["probe"].get("acked")]
            cells.append(f"{statistics.median(v):,.1f}{mark}" if v else "–")
        out.append(f"| {SERVERS[s][3]} | {' | '.join(cells)} |")
    troubles = [f"- {SERVERS[r['server']][3]}, {r['work']}, round {r['round'] + 1}: {r.get('failed') or r.get('why')}" for r in lines
                if r["kind"] == "broken" or r["kind"] == "run" and r["failed"]]
    noisy = sum(bool(r["noisy"]) for r in runs)
    out += ["", "## Runs", "", f"{len(runs)} runs, {noisy} of them not quiet."]
    fs = [x for r in runs for x in r["disk_fsync_us_before_after"]]
    if fs:
        out.append(f"The disk's own synced append before and after runs: median {statistics.median(fs):,.0f} µs ({min(fs):,}–{max(fs):,}).")
    out += ["", "Not counted because they failed:", "", *troubles] if troubles else []
    out += ["", "Settings are those of `benches/peers/*.sh`; the load generator for all of them is `benches/peers/probe`. NATS has a stream and RabbitMQ a queue "
            "where others have a partition. Reading a RabbitMQ queue removes what was read.", ""]
    with open(o.page, "w") as f:
        f.write("\n".join(out))
    say(f"written: {o.page}\nruns: {o.runs}")
    return not troubles


if not o.page_only:
    all_rounds()
sys.exit(0 if page() else 1)
