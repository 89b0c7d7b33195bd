package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "peerprobe/contract"
)

const (
	fetchBytes = 4 << 20
	fetchWait  = 500 * time.Millisecond
)

// Consume reads each partition by long polls of its leader; the next one is on its way while the records
// of the last are handed out.
func (d *flotillaDrv) Consume(ctx context.Context, topic string, parts int, fromEnd bool, ready func(), f func([]byte)) error {
	r := d.routes(topic)
	defer r.close()
	from := make([]int64, parts)
	for p := range from {
		var err error
		if from[p], err = d.offset(ctx, r, topic, p, fromEnd); err != nil {
			return err
		}
	}
	ready()
	var wg sync.WaitGroup
	errs := make(chan error, parts)
	for p := range from {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := read(ctx, r, topic, p, from[p], f); err != nil && ctx.Err() == nil {
				errs <- err
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case err := <-errs:
		return err
	case <-done:
		return nil
	}
}

// at calls f with the partition's leader until it answers.
func (r *routes) at(ctx context.Context, part int, f func(context.Context, *grpc.ClientConn, *pb.Leader) error) error {
	var last error
	for ctx.Err() == nil {
		l, changed := r.leader(part)
		if l == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		cc, err := r.conn(l.Endpoint)
		if err == nil {
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			err = f(one, cc, l)
			cancel()
		}
		if err == nil {
			return nil
		}
		last = err
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("partition %d: %w", part, last)
}

func (d *flotillaDrv) offset(ctx context.Context, r *routes, topic string, part int, end bool) (at int64, err error) {
	q := &pb.ListOffsetsRequest_Query{Topic: topic, Partition: int32(part), Position: &pb.ListOffsetsRequest_Query_Earliest{Earliest: true}}
	if end {
		q.Position = &pb.ListOffsetsRequest_Query_Latest{Latest: true}
	}
	err = r.at(ctx, part, func(ctx context.Context, cc *grpc.ClientConn, _ *pb.Leader) error {
		a, err := pb.NewLogClient(cc).ListOffsets(ctx, &pb.ListOffsetsRequest{Queries: []*pb.ListOffsetsRequest_Query{q}})
		if err != nil {
			return err
		}
		if len(a.Results) != 1 {
			return fmt.Errorf("%d results", len(a.Results))
		}
		if e := a.Results[0].Error; e != nil {
			return fmt.Errorf("%v: %s", e.Reason, e.Message)
		}
		at = a.Results[0].Offset
		return nil
	})
	return at, err
}

func fetch(ctx context.Context, r *routes, topic string, part int, from int64) (got *pb.FetchedPartition, err error) {
	err = r.at(ctx, part, func(ctx context.Context, cc *grpc.ClientConn, l *pb.Leader) error {
		a, err := pb.NewLogClient(cc).Fetch(ctx, &pb.FetchRequest{
			Partitions: []*pb.FetchPartition{{Topic: topic, Partition: int32(part), FetchOffset: from, CurrentLeaderEpoch: &l.LeaderEpoch, MaxBytes: fetchBytes}},
			MinBytes:   1, MaxBytes: fetchBytes, MaxWaitMs: int32(fetchWait.Milliseconds())})
		if err != nil {
			return err
		}
		if len(a.Partitions) != 1 {
			return fmt.Errorf("%d partitions", len(a.Partitions))
		}
		got = a.Partitions[0]
		if e := got.Error; e != nil {
			r.learn(part, e.Leader)
			return fmt.Errorf("%v: %s", e.Reason, e.Message)
		}
		return nil
	})
	return got, err
}

func read(ctx context.Context, r *routes, topic string, part int, from int64, f func([]byte)) error {
	type page struct {
		from int64
		got  *pb.FetchedPartition
		err  error
	}
	pages := make(chan page) // one is being handed out, one waits, one is fetched
	go func() {
		for at := from; ; {
			got, err := fetch(ctx, r, topic, part, at)
			select {
			case pages <- page{at, got, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
			at = got.NextOffset
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-pages:
			if p.err != nil {
				return p.err
			}
			for _, b := range p.got.Batches {
				if err := eachValue(b, max(0, p.from-b.BaseOffset), f); err != nil {
					return err
				}
			}
		}
	}
}
