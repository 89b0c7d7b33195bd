package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type kafkaDrv struct{ us []string }

func newKafka(us []string) (Driver, error) { return &kafkaDrv{us}, nil }

func (d *kafkaDrv) Create(topic string, parts, replicas int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.us...))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, c := context.WithTimeout(context.Background(), 60*time.Second)
	defer c()
	mir := "2"
	cfg := map[string]*string{}
	if replicas > 2 {
		cfg["min.insync.replicas"] = &mir
	}
	r, err := kadm.NewClient(cl).CreateTopic(ctx, int32(parts), int16(replicas), cfg, topic)
	if err == nil {
		err = r.Err
	}
	return err
}

// Drop deletes the topic.
func (d *kafkaDrv) Drop(topic string, _ int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.us...))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, c := context.WithTimeout(context.Background(), 60*time.Second)
	defer c()
	_, err = kadm.NewClient(cl).DeleteTopic(ctx, topic)
	return err
}

// Ready waits until n brokers are registered and a topic with n replicas can be made.
func (d *kafkaDrv) Ready(n int, limit time.Duration) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.us...), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.DialTimeout(time.Second), kgo.RetryTimeout(time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	end := time.Now().Add(limit)
	for time.Now().Before(end) {
		ctx, c := context.WithTimeout(context.Background(), 2*time.Second)
		b, err := kadm.NewClient(cl).ListBrokers(ctx)
		c()
		if err == nil && len(b) >= n {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("not ready in %v", limit)
}

func (d *kafkaDrv) Leader(topic string) (int, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.us...))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	ctx, c := context.WithTimeout(context.Background(), 10*time.Second)
	defer c()
	ts, err := kadm.NewClient(cl).ListTopics(ctx, topic)
	if err != nil {
		return 0, err
	}
	return int(ts[topic].Partitions[0].Leader), nil
}

type kafkaProd struct {
	cl    *kgo.Client
	topic string
}

func (d *kafkaDrv) Producer(topic string, parts int, batching bool) (Producer, error) {
	o := []kgo.Opt{kgo.SeedBrokers(d.us...), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(1 << 20), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond })}
	if batching {
		o = append(o, kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(1000000))
	} else {
		o = append(o, kgo.ProducerLinger(0))
	}
	cl, err := kgo.NewClient(o...)
	return &kafkaProd{cl, topic}, err
}
func (p *kafkaProd) Send(k int, b []byte, done func(error)) {
	p.cl.Produce(context.Background(), &kgo.Record{Topic: p.topic, Partition: int32(k), Value: b},
		func(_ *kgo.Record, e error) { done(e) })
}
func (p *kafkaProd) Flush() {
	ctx, c := context.WithTimeout(context.Background(), 30*time.Second)
	defer c()
	p.cl.Flush(ctx)
}
func (p *kafkaProd) Close() { p.cl.Close() }

func (d *kafkaDrv) Consume(ctx context.Context, topic string, parts int, fromEnd bool, ready func(), f func([]byte)) error {
	off := kgo.NewOffset().AtStart()
	if fromEnd {
		off = kgo.NewOffset().AtEnd()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.us...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(off),
		kgo.FetchMinBytes(1))
	if err != nil {
		return err
	}
	defer cl.Close()
	ready()
	for ctx.Err() == nil {
		fs := cl.PollFetches(ctx)
		fs.EachRecord(func(r *kgo.Record) { f(r.Value) })
	}
	return nil
}
