package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"holdfast/broker/wire"
)

// trial is one gateway with an upstream of its own, and what is published through it.
type trial struct {
	dir      string
	upstream *upstream
	gateway  *process
	sink     *sink
	load     *load
}

// newTrial starts a gateway. Its upstream cannot be reached until connect.
func newTrial(o *options, kind string, publishers int) (_ *trial, err error) {
	t := &trial{sink: newSink(publishers)}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.dir, err = os.MkdirTemp(o.dir, "bench-bridge"); err != nil {
		return nil, err
	}
	if t.upstream, err = newUpstream(t.sink, o.listen); err != nil {
		return nil, err
	}
	if t.gateway, err = newGateway(kind, o.program, t.dir, t.upstream.Addr().String()); err != nil {
		return nil, err
	}
	if _, err = t.gateway.start(); err != nil {
		return nil, err
	}
	t.load = newLoad(t.gateway.addr, publishers, t.sink)
	return t, nil
}

// newConnected starts a gateway and has it reach its upstream.
func newConnected(o *options, kind string, publishers int) (*trial, error) {
	t, err := newTrial(o, kind, publishers)
	if err == nil {
		if err = t.connect(); err != nil {
			t.close()
		}
	}
	return t, err
}

func (t *trial) close() {
	if t.gateway != nil {
		t.gateway.kill()
	}
	if t.upstream != nil {
		t.upstream.close()
	}
	os.RemoveAll(t.dir)
}

// connect lets the gateway reach its upstream and waits until something arrives there.
func (t *trial) connect() error {
	t.upstream.set(true)
	c, err := connect(t.gateway.addr, "probe")
	if err != nil {
		return err
	}
	defer c.Close()
	ask := wire.Append(nil, wire.V311, &wire.Publish{Topic: "bench/probe"})
	for begun := time.Now(); !t.sink.probed.Load(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > stall {
			return errors.New("nothing gets through the bridge")
		}
		if _, err := c.Write(ask); err != nil {
			return err
		}
	}
	return nil
}

// throughput is messages a second at the upstream, and the gateway's CPU for each, under full load.
func throughput(o *options, kind string, publishers int) (rate float64, cpu time.Duration, a account, err error) {
	t, err := newConnected(o, kind, publishers)
	if err != nil {
		return
	}
	defer t.close()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- t.load.run(stop, 0, 0, underWay) }()
	time.Sleep(o.length / 4) // warms up
	n, begun := t.sink.received.Load(), time.Now()
	before, err1 := t.gateway.CPU()
	time.Sleep(o.length)
	n = t.sink.received.Load() - n
	after, err2 := t.gateway.CPU()
	rate = float64(n) / time.Since(begun).Seconds()
	close(stop)
	if err = errors.Join(err1, err2, <-ended); err == nil && n == 0 {
		err = errors.New("nothing arrived")
	}
	if err == nil {
		cpu, a = (after-before)/time.Duration(n), t.sink.settle(t.load)
	}
	return
}

// latency is from publishing to the sink, at 100 messages a second.
func latency(o *options, kind string) (p50, p99 time.Duration, err error) {
	t, err := newConnected(o, kind, 1)
	if err != nil {
		return
	}
	defer t.close()
	if err = t.load.run(nil, uint64(100*o.length.Seconds()), 10*time.Millisecond, 0); err != nil {
		return
	}
	t.sink.settle(t.load)
	p50, p99 = t.sink.percentiles()
	return
}

// backlog is what becomes of messages that find no upstream.
type backlog struct {
	ingest  float64 // messages a second
	rss     float64 // MiB with the backlog
	restart time.Duration
	again   float64 // MiB after the restart
	drain   float64 // messages a second
	account account
}

func measureBacklog(o *options, kind string, n int) (b backlog, err error) {
	const publishers = 20
	t, err := newTrial(o, kind, publishers)
	if err != nil {
		return
	}
	defer t.close()
	begun := time.Now()
	if err = t.load.run(nil, uint64(n/publishers), 0, 0); err != nil {
		return
	}
	b.ingest = float64(t.load.acked()) / time.Since(begun).Seconds()
	time.Sleep(2 * time.Second)
	rss, err := t.gateway.RSS()
	if err != nil {
		return b, err
	}
	b.rss = float64(rss) / (1 << 20)
	_ = t.gateway.Stop(5 * time.Minute) // how it ended is no figure of this
	if b.restart, err = t.gateway.start(); err != nil {
		return
	}
	time.Sleep(2 * time.Second)
	if rss, err = t.gateway.RSS(); err != nil {
		return b, err
	}
	b.again = float64(rss) / (1 << 20)
	t.upstream.set(true)
	for begun := time.Now(); t.sink.received.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > stall {
			return b, errors.New("nothing of the backlog arrives")
		}
	}
	begun = time.Now()
	first := t.sink.received.Load()
	for t.sink.received.Load() < t.load.acked() && time.Since(begun) < 30*time.Minute {
		last := t.sink.received.Load()
		time.Sleep(50 * time.Millisecond)
		if last == t.sink.received.Load() && time.Since(begun) > stall {
			break // the rest is lost
		}
	}
	b.drain = float64(t.sink.received.Load()-first) / time.Since(begun).Seconds()
	b.account = t.sink.settle(t.load)
	return
}

// flaps cuts the link ten times under load.
func flaps(o *options, kind string) (a account, err error) {
	t, err := newConnected(o, kind, 4)
	if err != nil {
		return
	}
	defer t.close()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- t.load.run(stop, 0, 2*time.Millisecond, 0) }()
	for range 10 {
		time.Sleep(500 * time.Millisecond)
		t.upstream.set(false)
		time.Sleep(200 * time.Millisecond)
		t.upstream.set(true)
		n := t.sink.received.Load()
		for begun := time.Now(); t.sink.received.Load() == n && time.Since(begun) < 20*time.Second; {
			time.Sleep(time.Millisecond) // until it is back, so that each cut finds messages in flight
		}
	}
	close(stop)
	if err = <-ended; err != nil {
		return
	}
	return t.sink.settle(t.load), nil
}

// kills ends the gateway with SIGKILL under load, three times with the upstream and three times without.
func kills(o *options, kind string) (a account, err error) {
	t, err := newConnected(o, kind, 4)
	if err != nil {
		return
	}
	defer t.close()
	for i := range 6 {
		t.upstream.set(i < 3)
		ended := make(chan error, 1)
		go func() { ended <- t.load.run(nil, 0, 2*time.Millisecond, 0) }()
		time.Sleep(time.Second)
		t.gateway.kill()
		if err := <-ended; !errors.Is(err, errEnded) {
			return a, fmt.Errorf("publishers: %w", err)
		}
		if _, err := t.gateway.start(); err != nil {
			return a, err
		}
	}
	t.upstream.set(true)
	return t.sink.settle(t.load), nil
}
