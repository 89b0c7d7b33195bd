// probe: one open-loop load generator for several queue servers, so that every
// peer is measured by the same code. Latency is taken from the time a record
// was DUE to be sent (no coordinated omission), to the acknowledgement (rate,
// sync, failover) or to its delivery to a consumer (e2e).
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type Producer interface {
	// Send is asynchronous; done is called once, with the ack or an error.
	Send(part int, payload []byte, done func(error))
	Flush()
	Close()
}

type Driver interface {
	Create(topic string, parts, replicas int) error
	Producer(topic string, parts int, batching bool) (Producer, error)
	// Consume from the beginning (fromEnd=false) or only new records; calls f
	// for each record until ctx ends.
	Consume(ctx context.Context, topic string, parts int, fromEnd bool, ready func(), f func([]byte)) error
}

var (
	driver   = flag.String("driver", "nats", "nats | kafka | amqp | flotilla")
	urls     = flag.String("urls", "", "comma-separated server addresses")
	topic    = flag.String("topic", "t", "topic / stream / queue name")
	parts    = flag.Int("parts", 1, "partitions (nats: streams, amqp: queues)")
	replicas = flag.Int("replicas", 3, "replicas for -mode create")
	mode     = flag.String("mode", "rate", "ready | create | drop | leader | rate | sync | tput | consume | e2e | failover")
	rate     = flag.Int("rate", 1000, "records per second (rate, e2e, failover)")
	secs     = flag.Float64("secs", 30, "seconds to run")
	size     = flag.Int("size", 1024, "payload bytes")
	window   = flag.Int("window", 1000, "records in flight per partition (tput)")
	count    = flag.Int64("count", 0, "records to read (consume)")
	killAt   = flag.Float64("kill-at", 5, "seconds into failover at which -kill-cmd runs")
	killCmd  = flag.String("kill-cmd", "", "shell command that kills the leader")
)

type hist struct {
	mu sync.Mutex
	v  []int64
}

func (h *hist) add(d time.Duration) { h.mu.Lock(); h.v = append(h.v, int64(d)); h.mu.Unlock() }
func (h *hist) pct(out map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sort.Slice(h.v, func(i, j int) bool { return h.v[i] < h.v[j] })
	if len(h.v) == 0 {
		return
	}
	q := func(p float64) float64 {
		i := int(float64(len(h.v)) * p)
		if i >= len(h.v) {
			i = len(h.v) - 1
		}
		return float64(h.v[i]/1000) / 1000
	}
	out["p50_ms"], out["p95_ms"], out["p99_ms"], out["p999_ms"] = q(.5), q(.95), q(.99), q(.999)
	out["max_ms"] = q(1)
}

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func payload() []byte {
	b := make([]byte, *size)
	rand.New(rand.NewSource(1)).Read(b) // incompressible
	return b
}

func main() {
	flag.Parse()
	var d Driver
	var err error
	us := strings.Split(*urls, ",")
	switch *driver {
	case "nats":
		d, err = newNats(us)
	case "kafka":
		d, err = newKafka(us)
	case "amqp":
		d, err = newAmqp(us)
	case "flotilla":
		d, err = newFlotilla(us)
	default:
		err = fmt.Errorf("no driver %q", *driver)
	}
	die(err)
	out := map[string]any{"driver": *driver, "mode": *mode, "parts": *parts, "size": *size}
	switch *mode {
	case "create":
		die(d.Create(*topic, *parts, *replicas))
	case "drop":
		r, ok := d.(interface{ Drop(string, int) error })
		if !ok {
			die(fmt.Errorf("no -mode drop for this driver"))
		}
		die(r.Drop(*topic, *parts))
	case "ready":
		r, ok := d.(interface {
			Ready(int, time.Duration) error
		})
		if !ok {
			die(fmt.Errorf("no -mode ready for this driver"))
		}
		die(r.Ready(*replicas, time.Duration(*secs*float64(time.Second))))
	case "leader":
		l, ok := d.(interface{ Leader(string) (int, error) })
		if !ok {
			die(fmt.Errorf("no -mode leader for this driver"))
		}
		n, err := l.Leader(*topic)
		die(err)
		out["leader"] = n
	case "rate", "failover":
		runRate(d, out, *mode == "failover")
	case "sync":
		runSync(d, out)
	case "tput":
		runTput(d, out)
	case "consume":
		runConsume(d, out)
	case "e2e":
		runE2E(d, out)
	default:
		die(fmt.Errorf("no mode %q", *mode))
	}
	j, _ := json.Marshal(out)
	fmt.Println(string(j))
}

// openLoop calls f(i, due) at a fixed rate; it never waits for answers.
func openLoop(rate int, secs float64, f func(i int, due time.Time)) {
	start := time.Now()
	n := int(float64(rate) * secs)
	step := time.Second / time.Duration(rate)
	for i := 0; i < n; i++ {
		due := start.Add(time.Duration(i) * step)
		if w := time.Until(due); w > 0 {
			time.Sleep(w)
		}
		f(i, due)
	}
}

func runRate(d Driver, out map[string]any, failover bool) {
	p, err := d.Producer(*topic, *parts, false)
	die(err)
	// warm up: connection, metadata, first append
	wu := make(chan error, 1)
	p.Send(0, payload(), func(e error) { wu <- e })
	die(<-wu)
	base := payload()
	var h hist
	var acked, errs, retries atomic.Int64
	var ackMu sync.Mutex
	var acks []time.Time
	var killed time.Time
	var killMu sync.Mutex
	var firstDueAfter time.Duration // first ack of a record due after the kill
	var haveFirst bool
	var wg sync.WaitGroup
	if failover {
		go func() {
			time.Sleep(time.Duration(*killAt * float64(time.Second)))
			killMu.Lock()
			killed = time.Now()
			killMu.Unlock()
			o, e := exec.Command("sh", "-c", *killCmd).CombinedOutput()
			fmt.Fprintf(os.Stderr, "kill-cmd: %s %v\n", strings.TrimSpace(string(o)), e)
		}()
	}
	var send func(i int, due time.Time, b []byte)
	send = func(i int, due time.Time, b []byte) {
		p.Send(i%*parts, b, func(e error) {
			if e != nil {
				if failover {
					retries.Add(1)
					time.AfterFunc(50*time.Millisecond, func() { send(i, due, b) })
					return
				}
				errs.Add(1)
				wg.Done()
				return
			}
			now := time.Now()
			h.add(now.Sub(due))
			acked.Add(1)
			if failover {
				ackMu.Lock()
				acks = append(acks, now)
				ackMu.Unlock()
				killMu.Lock()
				if !killed.IsZero() && due.After(killed) && !haveFirst {
					haveFirst, firstDueAfter = true, now.Sub(killed)
				}
				killMu.Unlock()
			}
			wg.Done()
		})
	}
	t0 := time.Now()
	openLoop(*rate, *secs, func(i int, due time.Time) {
		b := append([]byte(nil), base...)
		binary.BigEndian.PutUint64(b, uint64(i))
		wg.Add(1)
		send(i, due, b)
	})
	fin := make(chan struct{})
	go func() { p.Flush(); wg.Wait(); close(fin) }()
	select {
	case <-fin:
	case <-time.After(60 * time.Second):
		out["unfinished"] = true
	}
	el := time.Since(t0).Seconds()
	out["acked"], out["errors"], out["retries"] = acked.Load(), errs.Load(), retries.Load()
	out["rate_asked"], out["rate_got"] = *rate, float64(acked.Load())/el
	h.pct(out)
	if failover {
		ackMu.Lock()
		sort.Slice(acks, func(i, j int) bool { return acks[i].Before(acks[j]) })
		var gap time.Duration
		var at time.Time
		for i := 1; i < len(acks); i++ {
			if g := acks[i].Sub(acks[i-1]); g > gap {
				gap, at = g, acks[i-1]
			}
		}
		ackMu.Unlock()
		out["longest_ack_gap_ms"] = gap.Milliseconds()
		out["gap_starts_after_kill_ms"] = at.Sub(killed).Milliseconds()
		out["kill_to_first_new_ack_ms"] = firstDueAfter.Milliseconds()
	}
	p.Close()
}

func runSync(d Driver, out map[string]any) {
	p, err := d.Producer(*topic, *parts, false)
	die(err)
	b := payload()
	var h hist
	ch := make(chan error, 1)
	n, errs := 0, 0
	var t0 time.Time
	for i := 0; ; i++ {
		if i == 20 {
			h.v, n, t0 = nil, 0, time.Now()
		}
		if i > 20 && time.Since(t0).Seconds() > *secs {
			break
		}
		s := time.Now()
		p.Send(i%*parts, b, func(e error) { ch <- e })
		if e := <-ch; e != nil {
			errs++
			continue
		}
		h.add(time.Since(s))
		n++
	}
	out["acked"], out["errors"], out["msg_per_s"] = n, errs, float64(n)/time.Since(t0).Seconds()
	h.pct(out)
	p.Close()
}

func runTput(d Driver, out map[string]any) {
	p, err := d.Producer(*topic, *parts, true)
	die(err)
	b := payload()
	var h hist
	var acked, errs atomic.Int64
	sem := make([]chan struct{}, *parts)
	for i := range sem {
		sem[i] = make(chan struct{}, *window)
	}
	stop := make(chan struct{})
	t0 := time.Now()
	time.AfterFunc(time.Duration(*secs*float64(time.Second)), func() { close(stop) })
	var wg sync.WaitGroup
	for k := 0; k < *parts; k++ {
		wg.Add(1)
		go func(k int) {
			defer wg.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case sem[k] <- struct{}{}:
				}
				s := time.Now()
				p.Send(k, b, func(e error) {
					<-sem[k]
					if e != nil {
						errs.Add(1)
						return
					}
					if i%16 == 0 {
						h.add(time.Since(s))
					}
					acked.Add(1)
				})
			}
		}(k)
	}
	wg.Wait()
	n := acked.Load() // acknowledged inside the window only
	el := time.Since(t0).Seconds()
	out["acked"], out["errors"], out["secs"] = n, errs.Load(), el
	out["msg_per_s"], out["MB_per_s"] = float64(n)/el, float64(n)/el*float64(*size)/1e6
	out["window"] = *window
	h.pct(out)
	p.Flush()
	p.Close()
}

func runConsume(d Driver, out map[string]any) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(*secs*float64(time.Second)))
	defer cancel()
	var n atomic.Int64
	var t0, t1 time.Time
	var once, fin sync.Once
	err := d.Consume(ctx, *topic, *parts, false, func() {}, func(b []byte) {
		once.Do(func() { t0 = time.Now() })
		if x := n.Add(1); *count > 0 && x >= *count {
			fin.Do(func() { t1 = time.Now(); cancel() })
		}
	})
	if t1.IsZero() {
		t1 = time.Now()
	}
	if err != nil && ctx.Err() == nil {
		die(err)
	}
	el := t1.Sub(t0).Seconds()
	c := n.Load()
	if *count > 0 && c > *count {
		c = *count
	}
	out["read"], out["secs"], out["msg_per_s"] = c, el, float64(c)/el
	out["MB_per_s"] = float64(c) / el * float64(*size) / 1e6
}

func runE2E(d Driver, out map[string]any) {
	p, err := d.Producer(*topic, *parts, false)
	die(err)
	ctx, cancel := context.WithCancel(context.Background())
	var h hist
	var got, acked, errs atomic.Int64
	epoch := time.Now()
	ready := make(chan struct{})
	var once sync.Once
	cerr := make(chan error, 1)
	tag := rand.Uint64()
	go func() {
		cerr <- d.Consume(ctx, *topic, *parts, true, func() { once.Do(func() { close(ready) }) }, func(b []byte) {
			if len(b) < 16 || binary.BigEndian.Uint64(b[8:]) != tag {
				return
			}
			due := int64(binary.BigEndian.Uint64(b))
			h.add(time.Since(epoch) - time.Duration(due))
			got.Add(1)
		})
	}()
	select {
	case <-ready:
	case e := <-cerr:
		die(e)
	}
	time.Sleep(2 * time.Second)
	base := payload()
	openLoop(*rate, *secs, func(i int, due time.Time) {
		b := append([]byte(nil), base...)
		binary.BigEndian.PutUint64(b, uint64(due.Sub(epoch)))
		binary.BigEndian.PutUint64(b[8:], tag)
		p.Send(i%*parts, b, func(e error) {
			if e != nil {
				errs.Add(1)
			} else {
				acked.Add(1)
			}
		})
	})
	p.Flush()
	for i := 0; i < 100 && got.Load() < acked.Load(); i++ {
		time.Sleep(50 * time.Millisecond)
	}
	out["acked"], out["errors"], out["got"], out["rate_asked"] = acked.Load(), errs.Load(), got.Load(), *rate
	h.pct(out)
	cancel()
	p.Close()
}
