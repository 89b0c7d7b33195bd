package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// One JetStream stream per partition: NAME-0, NAME-1, ... with one subject each.
type natsDrv struct {
	url string
}

func newNats(us []string) (Driver, error) { return &natsDrv{strings.Join(us, ",")}, nil }

func (d *natsDrv) conn() (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(d.url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(2*time.Second),
		jetstream.WithPublishAsyncMaxPending(1<<20))
	return nc, js, err
}

func nm(t string, k int) string { return fmt.Sprintf("%s-%d", t, k) }

func (d *natsDrv) Create(topic string, parts, replicas int) error {
	nc, js, err := d.conn()
	if err != nil {
		return err
	}
	defer nc.Close()
	for k := 0; k < parts; k++ {
		ctx, c := context.WithTimeout(context.Background(), 20*time.Second)
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: nm(topic, k),
			Subjects: []string{nm(topic, k)}, Replicas: replicas, Storage: jetstream.FileStorage})
		c()
		if err != nil {
			return err
		}
	}
	return nil
}

// Drop deletes the streams.
func (d *natsDrv) Drop(topic string, parts int) error {
	nc, js, err := d.conn()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, c := context.WithTimeout(context.Background(), 60*time.Second)
	defer c()
	for k := 0; k < parts; k++ {
		if err := js.DeleteStream(ctx, nm(topic, k)); err != nil {
			return err
		}
	}
	return nil
}

// Leader is the number of the node that leads the first stream.
func (d *natsDrv) Leader(topic string) (n int, err error) {
	nc, js, err := d.conn()
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	ctx, c := context.WithTimeout(context.Background(), 10*time.Second)
	defer c()
	s, err := js.Stream(ctx, nm(topic, 0))
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscanf(s.CachedInfo().Cluster.Leader, "n%d", &n)
	return n, err
}

type natsProd struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	topic string
	batch bool
	lanes []chan natsWait
	wg    sync.WaitGroup
}
type natsWait struct {
	f    jetstream.PubAckFuture
	done func(error)
}

func (w natsWait) wait() {
	select {
	case <-w.f.Ok():
		w.done(nil)
	case e := <-w.f.Err():
		w.done(e)
	}
}

func (d *natsDrv) Producer(topic string, parts int, batching bool) (Producer, error) {
	nc, js, err := d.conn()
	if err != nil {
		return nil, err
	}
	p := &natsProd{nc: nc, js: js, topic: topic, batch: batching}
	for k := 0; k < parts; k++ {
		ch := make(chan natsWait, 1<<18)
		p.lanes = append(p.lanes, ch)
		p.wg.Add(1)
		go func() { // acks of one stream come in order
			defer p.wg.Done()
			for w := range ch {
				w.wait()
			}
		}()
	}
	return p, nil
}

func (p *natsProd) Send(k int, b []byte, done func(error)) {
	f, err := p.js.PublishAsync(nm(p.topic, k), b, jetstream.WithRetryAttempts(0))
	if err != nil {
		done(err)
		return
	}
	w := natsWait{f, done}
	if p.batch {
		p.lanes[k] <- w
	} else { // low rates: one waiter each, so a lost publish delays no other ack
		go w.wait()
	}
}
func (p *natsProd) Flush() {
	select {
	case <-p.js.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
	}
}
func (p *natsProd) Close() { p.nc.Close() }

func (d *natsDrv) Consume(ctx context.Context, topic string, parts int, fromEnd bool, ready func(), f func([]byte)) error {
	nc, js, err := d.conn()
	if err != nil {
		return err
	}
	defer nc.Close()
	for k := 0; k < parts; k++ {
		cfg := jetstream.OrderedConsumerConfig{}
		if fromEnd {
			cfg.DeliverPolicy = jetstream.DeliverNewPolicy
		}
		c, err := js.OrderedConsumer(ctx, nm(topic, k), cfg)
		if err != nil {
			return err
		}
		cc, err := c.Consume(func(m jetstream.Msg) { f(m.Data()) }, jetstream.PullMaxMessages(5000))
		if err != nil {
			return err
		}
		defer cc.Stop()
	}
	ready()
	<-ctx.Done()
	return nil
}
