package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// One quorum queue per partition: NAME-0, NAME-1, ...
type amqpDrv struct{ us []string }

func newAmqp(us []string) (Driver, error) { return &amqpDrv{us}, nil }

func (d *amqpDrv) dial() (c *amqp.Connection, err error) {
	for _, u := range d.us {
		if c, err = amqp.Dial("amqp://guest:guest@" + u + "/"); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (d *amqpDrv) Create(topic string, parts, replicas int) error {
	for k := 0; k < parts; k++ { // leaders spread over the nodes
		u := d.us[k%len(d.us)]
		c, err := amqp.Dial("amqp://guest:guest@" + u + "/")
		if err != nil {
			return err
		}
		ch, err := c.Channel()
		if err != nil {
			return err
		}
		_, err = ch.QueueDeclare(nm(topic, k), true, false, false, false,
			amqp.Table{"x-queue-type": "quorum", "x-quorum-initial-group-size": replicas})
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Drop deletes the queues.
func (d *amqpDrv) Drop(topic string, parts int) error {
	c, err := d.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	for k := 0; k < parts; k++ {
		if _, err := ch.QueueDelete(nm(topic, k), false, false, false); err != nil {
			return err
		}
	}
	return nil
}

type amqpProd struct {
	c     *amqp.Connection
	topic string
	batch bool
	lanes []amqpLane
}
type amqpLane struct {
	mu *sync.Mutex
	ch *amqp.Channel
	q  chan amqpWait
}
type amqpWait struct {
	d    *amqp.DeferredConfirmation
	done func(error)
}

func (w amqpWait) wait() {
	if w.d.Wait() {
		w.done(nil)
	} else {
		w.done(fmt.Errorf("nack"))
	}
}

func (d *amqpDrv) Producer(topic string, parts int, batching bool) (Producer, error) {
	c, err := d.dial()
	if err != nil {
		return nil, err
	}
	p := &amqpProd{c: c, topic: topic, batch: batching}
	for k := 0; k < parts; k++ {
		ch, err := c.Channel()
		if err != nil {
			return nil, err
		}
		if err = ch.Confirm(false); err != nil {
			return nil, err
		}
		l := amqpLane{&sync.Mutex{}, ch, make(chan amqpWait, 1<<18)}
		p.lanes = append(p.lanes, l)
		go func() {
			for w := range l.q {
				w.wait()
			}
		}()
	}
	return p, nil
}
func (p *amqpProd) Send(k int, b []byte, done func(error)) {
	l := p.lanes[k]
	l.mu.Lock()
	d, err := l.ch.PublishWithDeferredConfirm("", nm(p.topic, k), false, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: b})
	if err == nil {
		w := amqpWait{d, done}
		if p.batch {
			l.q <- w
		} else {
			go w.wait()
		}
	}
	l.mu.Unlock()
	if err != nil {
		done(err)
	}
}
func (p *amqpProd) Flush() {
	for i := 0; i < 600; i++ {
		n := 0
		for _, l := range p.lanes {
			n += len(l.q)
		}
		if n == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
}
func (p *amqpProd) Close() { p.c.Close() }

func (d *amqpDrv) Consume(ctx context.Context, topic string, parts int, fromEnd bool, ready func(), f func([]byte)) error {
	c, err := d.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	var wg sync.WaitGroup
	for k := 0; k < parts; k++ {
		ch, err := c.Channel()
		if err != nil {
			return err
		}
		ch.Qos(2000, 0, false)
		ms, err := ch.Consume(nm(topic, k), "", false, false, false, false, nil)
		if err != nil {
			return err
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			n := 0
			for {
				select {
				case <-ctx.Done():
					return
				case m, ok := <-ms:
					if !ok {
						return
					}
					f(m.Body)
					if n++; n%200 == 0 || fromEnd {
						m.Ack(true)
					}
				}
			}
		}()
	}
	ready()
	wg.Wait()
	return nil
}
