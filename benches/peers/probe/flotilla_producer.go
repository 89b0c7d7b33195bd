package main

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pb "peerprobe/contract"
)

const (
	batchBytes   = 512 << 10
	batchRecords = 10_000
	inFlight     = 5 // as many batches of a producer as a partition remembers
	lingerTime   = 5 * time.Millisecond
	answerWait   = 10 * time.Second
)

// Safe against lost answers: every batch is numbered, and what is not answered is sent again as it was.
type flotillaProd struct {
	r       *routes
	lanes   []*lane
	linger  time.Duration
	next    atomic.Uint64
	mu      sync.Mutex
	streams map[string]*stream
}

func (d *flotillaDrv) Producer(topic string, parts int, batching bool) (Producer, error) {
	p := &flotillaProd{r: d.routes(topic), streams: map[string]*stream{}}
	if batching {
		p.linger = lingerTime
	}
	for k := 0; k < parts; k++ {
		l := &lane{p: p, topic: topic, part: k, id: rand.Int63(), wake: make(chan struct{}, 1), answers: make(chan answer, 64)}
		p.lanes = append(p.lanes, l)
		go l.run()
	}
	return p, nil
}

func (p *flotillaProd) Send(k int, b []byte, done func(error)) { p.lanes[k].send(b, done) }

func (p *flotillaProd) Flush() {
	for _, l := range p.lanes {
		for end := time.Now().Add(30 * time.Second); l.unanswered.Load() > 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
}

func (p *flotillaProd) Close() { p.r.close() }

// batch is what one lane sends at once. After it has its sequence it never changes.
type batch struct {
	body  []byte
	dones []func(error)
	since time.Time
	wire  *pb.RecordBatch
	sent  uint64 // correlation id of the last attempt
	at    time.Time
}

func (b *batch) end(err error) {
	for _, f := range b.dones {
		f(err)
	}
}

type answer struct {
	correlation uint64
	err         *pb.Error
	broken      *stream // instead: this stream is no more
}

// lane sends the batches of one partition, in order.
type lane struct {
	p          *flotillaProd
	topic      string
	part       int
	id         int64
	sequence   int64
	wake       chan struct{}
	answers    chan answer
	unanswered atomic.Int64

	mu      sync.Mutex
	waiting []*batch // the last one is being filled

	flying []*batch // oldest first; of run alone
	stream *stream
	epoch  int64
}

func (l *lane) send(value []byte, done func(error)) {
	l.unanswered.Add(1)
	l.mu.Lock()
	n := len(l.waiting)
	if n == 0 || len(l.waiting[n-1].body)+len(value)+16 > batchBytes || len(l.waiting[n-1].dones) >= batchRecords {
		l.waiting = append(l.waiting, &batch{since: time.Now()})
		n++
	}
	b := l.waiting[n-1]
	b.body = appendRecord(b.body, value)
	b.dones = append(b.dones, done)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take gives the next batch, or how long to wait until there may be one (0: until woken). Behind others
// that are on their way a batch waits for more records.
func (l *lane) take() (*batch, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 || len(l.flying) >= inFlight {
		return nil, 0
	}
	b := l.waiting[0]
	if len(l.waiting) == 1 && len(l.flying) > 0 {
		if left := l.p.linger - time.Since(b.since); left > 0 {
			return nil, left
		}
	}
	l.waiting = l.waiting[1:]
	return b, 0
}

func (l *lane) run() {
	timer := time.NewTimer(time.Hour)
	for l.p.r.ctx.Err() == nil {
		leader, changed := l.p.r.leader(l.part)
		if leader != nil && (l.stream == nil || leader.LeaderEpoch > l.epoch) && !l.move(leader) {
			select { // refused: the leader is gone, and news of it is on its way
			case <-changed:
			case <-time.After(10 * time.Millisecond):
			case <-l.p.r.ctx.Done():
			}
			continue
		}
		wait := time.Second
		if l.stream != nil {
			for {
				b, left := l.take()
				if b == nil {
					if left > 0 {
						wait = left
					}
					break
				}
				l.stamp(b)
				l.flying = append(l.flying, b)
				if !l.write(b) {
					break
				}
			}
			if len(l.flying) > 0 && time.Since(l.flying[0].at) > answerWait {
				l.stream.drop()
				l.stream = nil
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		case <-changed:
		case a := <-l.answers:
			l.hear(a)
		case <-l.p.r.ctx.Done():
		}
	}
}

func (l *lane) stamp(b *batch) {
	epoch, sequence := int64(0), l.sequence
	n := len(b.dones)
	l.sequence += int64(n)
	b.wire = &pb.RecordBatch{RecordCount: int32(n), BaseTimestamp: time.Now().UnixMilli(), ProducerId: &l.id,
		ProducerEpoch: &epoch, BaseSequence: &sequence, Body: &pb.RecordBatch_Records{Records: b.body}}
	crc := seal(b.wire, b.body)
	b.wire.Crc32C = &crc
}

// move goes on at a leader: what is not answered is sent again there, in order.
func (l *lane) move(leader *pb.Leader) bool {
	s, err := l.p.open(leader.Endpoint)
	if err != nil {
		return false
	}
	l.stream, l.epoch = s, leader.LeaderEpoch
	for _, b := range l.flying {
		if !l.write(b) {
			return false
		}
	}
	return true
}

func (l *lane) write(b *batch) bool {
	b.sent, b.at = l.p.next.Add(1), time.Now()
	err := l.stream.send(l, &pb.ProduceRequest{CorrelationId: b.sent, Topic: l.topic, Partition: int32(l.part), Batch: b.wire,
		TimeoutMs: int32(answerWait.Milliseconds())})
	if err != nil {
		l.stream = nil
		return false
	}
	return true
}

func (l *lane) hear(a answer) {
	if a.broken != nil {
		if a.broken == l.stream {
			l.stream = nil
		}
		return
	}
	for i, b := range l.flying {
		if b.sent != a.correlation {
			continue
		}
		if a.err == nil || a.err.Reason == pb.ErrorReason_ERROR_REASON_UNSPECIFIED {
			l.flying = append(l.flying[:i:i], l.flying[i+1:]...)
			l.unanswered.Add(-int64(len(b.dones)))
			b.end(nil)
			return
		}
		// One that follows a refused one is out of order until that has been sent again.
		follows := i > 0 && a.err.Reason == pb.ErrorReason_ERROR_REASON_OUT_OF_ORDER_SEQUENCE
		switch a.err.Action {
		case pb.ErrorAction_ERROR_ACTION_RETRY, pb.ErrorAction_ERROR_ACTION_REFRESH_METADATA:
			l.p.r.learn(l.part, a.err.Leader)
		default:
			if !follows {
				die(fmt.Errorf("produce to %s/%d: %v: %s", l.topic, l.part, a.err.Reason, a.err.Message))
			}
		}
		wait := 5 * time.Millisecond
		if after := a.err.RetryAfter; after != nil {
			wait = min(after.AsDuration(), time.Second)
		}
		l.patience(wait)
		l.stream = nil // and all of it again, in order
		return
	}
}

// patience waits so long, or until another leads.
func (l *lane) patience(wait time.Duration) {
	leader, changed := l.p.r.leader(l.part)
	if leader != nil && leader.LeaderEpoch > l.epoch {
		return
	}
	select {
	case <-changed:
	case <-time.After(wait):
	case <-l.p.r.ctx.Done():
	}
}

// stream is the one produce stream to a node.
type stream struct {
	endpoint string
	p        *flotillaProd
	mu       sync.Mutex
	c        grpc.BidiStreamingClient[pb.ProduceRequest, pb.ProduceResponse]
	cancel   context.CancelFunc
	lanes    sync.Map // correlation id -> *lane
	dead     atomic.Bool
}

func (p *flotillaProd) open(endpoint string) (*stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.streams[endpoint]; s != nil && !s.dead.Load() {
		return s, nil
	}
	cc, err := p.r.conn(endpoint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(p.r.ctx)
	c, err := pb.NewLogClient(cc).Produce(ctx)
	if err != nil {
		cancel()
		cc.ResetConnectBackoff() // a node that comes back is found at once
		return nil, err
	}
	s := &stream{endpoint: endpoint, p: p, c: c, cancel: cancel}
	p.streams[endpoint] = s
	go s.hear()
	return s, nil
}

func (s *stream) send(l *lane, r *pb.ProduceRequest) error {
	s.lanes.Store(r.CorrelationId, l)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c.Send(r)
}

func (s *stream) drop() { s.dead.Store(true); s.cancel() }

func (s *stream) hear() {
	for {
		a, err := s.c.Recv()
		if err != nil {
			s.drop()
			for _, l := range s.p.lanes {
				l.tell(answer{broken: s})
			}
			return
		}
		if l, ok := s.lanes.LoadAndDelete(a.CorrelationId); ok {
			l.(*lane).tell(answer{correlation: a.CorrelationId, err: a.Error})
		}
	}
}

func (l *lane) tell(a answer) {
	select {
	case l.answers <- a:
	case <-l.p.r.ctx.Done():
	}
}
