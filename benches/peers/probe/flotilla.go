package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "peerprobe/contract"
)

// One topic; the driver's partitions are the topic's. Written from the contract in proto/ and
// docs/wire-protocol.md alone.
type flotillaDrv struct{ us []string }

func newFlotilla(us []string) (Driver, error) { return &flotillaDrv{us}, nil }

func dialFlotilla(endpoint string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(16<<20),
		grpc.WithReadBufferSize(256<<10), grpc.WithWriteBufferSize(256<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
}

// any calls f with one node after the other until one answers well or the context ends.
func (d *flotillaDrv) any(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	var last error
	for i := 0; ctx.Err() == nil; i++ {
		cc, err := dialFlotilla(d.us[i%len(d.us)])
		if err == nil {
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			err = f(one, cc)
			cancel()
			cc.Close()
		}
		if err == nil {
			return nil
		}
		last = err
		pause(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("no node answers: %w", last)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (d *flotillaDrv) Create(topic string, parts, replicas int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := d.any(ctx, func(ctx context.Context, cc *grpc.ClientConn) error {
		_, err := pb.NewAdminClient(cc).CreateTopic(ctx, &pb.CreateTopicRequest{Topic: &pb.Topic{
			Topic: topic, PartitionCount: int32(parts), ReplicationFactor: int32(replicas)}})
		return err
	})
	if err != nil {
		return err
	}
	return d.led(ctx, topic)
}

// led waits until every partition of the topic has a leader.
func (d *flotillaDrv) led(ctx context.Context, topic string) error {
	return d.any(ctx, func(ctx context.Context, cc *grpc.ClientConn) error {
		m, err := pb.NewClusterClient(cc).GetMetadata(ctx, &pb.GetMetadataRequest{Topics: []string{topic}})
		if err != nil {
			return err
		}
		for _, t := range m.Topics {
			if t.Topic != topic || t.Deleted {
				continue
			}
			for i, l := range t.Leaders {
				if l.NodeId == 0 {
					return fmt.Errorf("partition %d has no leader", i)
				}
			}
			return nil
		}
		return fmt.Errorf("no topic %s", topic)
	})
}

// Drop deletes the topic.
func (d *flotillaDrv) Drop(topic string, _ int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return d.any(ctx, func(ctx context.Context, cc *grpc.ClientConn) error {
		_, err := pb.NewAdminClient(cc).DeleteTopic(ctx, &pb.DeleteTopicRequest{Topic: topic})
		return err
	})
}

// Ready waits until n nodes are there and the cluster calls itself healthy.
func (d *flotillaDrv) Ready(n int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return d.any(ctx, func(ctx context.Context, cc *grpc.ClientConn) error {
		h, err := pb.NewClusterClient(cc).GetHealth(ctx, &pb.GetHealthRequest{})
		if err == nil && h.Status != pb.Health_STATUS_HEALTHY {
			err = fmt.Errorf("the cluster is %v", h.Status)
		}
		return err
	})
}

func (d *flotillaDrv) Leader(topic string) (int, error) {
	r := d.routes(topic)
	defer r.close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if l, changed := r.leader(0); l != nil {
			return int(l.NodeId), nil
		} else {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
	return 0, fmt.Errorf("partition 0 has no leader")
}

// routes says who leads which partition of one topic, and follows changes by the metadata watch.
type routes struct {
	d       *flotillaDrv
	topic   string
	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex
	leaders []*pb.Leader
	changed chan struct{} // closed at each change
	conns   map[string]*grpc.ClientConn
}

func (d *flotillaDrv) routes(topic string) *routes {
	ctx, cancel := context.WithCancel(context.Background())
	r := &routes{d: d, topic: topic, ctx: ctx, cancel: cancel, changed: make(chan struct{}), conns: map[string]*grpc.ClientConn{}}
	go r.watch()
	return r
}

// watch keeps one watch open, with another node when one goes.
func (r *routes) watch() {
	for i := 0; r.ctx.Err() == nil; i++ {
		r.follow(r.d.us[i%len(r.d.us)])
		pause(r.ctx, 10*time.Millisecond)
	}
}

func (r *routes) follow(endpoint string) {
	cc, err := dialFlotilla(endpoint)
	if err != nil {
		return
	}
	defer cc.Close()
	w, err := pb.NewClusterClient(cc).WatchMetadata(r.ctx, &pb.GetMetadataRequest{Topics: []string{r.topic}})
	if err != nil {
		return
	}
	for {
		m, err := w.Recv()
		if err != nil {
			return
		}
		for _, t := range m.Topics {
			if t.Topic == r.topic && !t.Deleted {
				for p, l := range t.Leaders {
					r.learn(p, l)
				}
			}
		}
	}
}

// learn takes what is newer than what is known.
func (r *routes) learn(part int, l *pb.Leader) {
	if l == nil || l.NodeId == 0 || l.Endpoint == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.leaders) <= part {
		r.leaders = append(r.leaders, nil)
	}
	if o := r.leaders[part]; o == nil || l.LeaderEpoch > o.LeaderEpoch {
		r.leaders[part] = l
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// leader gives the partition's leader, if one is known, and what is closed at the next change.
func (r *routes) leader(part int) (*pb.Leader, chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if part < len(r.leaders) {
		return r.leaders[part], r.changed
	}
	return nil, r.changed
}

// conn is the connection for records to a node, shared by all partitions that it leads.
func (r *routes) conn(endpoint string) (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cc := r.conns[endpoint]; cc != nil {
		return cc, nil
	}
	cc, err := dialFlotilla(endpoint)
	if err == nil {
		r.conns[endpoint] = cc
	}
	return cc, err
}

func (r *routes) close() {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cc := range r.conns {
		cc.Close()
	}
}
