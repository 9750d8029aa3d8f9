package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/bridge"
	"holdfast/broker/journal"
	"holdfast/broker/outbox"
	"holdfast/gateway/config"
	"holdfast/sensors/chips"
)

// gateway is the half of one that matters here: a journal and a bridge.
type gateway struct {
	journal *journal.Journal
	reader  *journal.Reader
	bridge  *bridge.Bridge
}

type fleet struct {
	gateways []*gateway
	sent     int // by each
	stop     context.CancelFunc
	work     sync.WaitGroup
}

// newFleet makes gateways with the bridge of the recipe's gateway.yaml.
func newFleet(c *cluster, dir string, n int) (*fleet, error) {
	f := &fleet{stop: func() {}}
	for i := range n {
		cfg, err := config.Load([]string{recipe + "gateway.yaml"}, config.Options{
			Drivers: chips.Drivers(), Hostname: func() (string, error) { return fmt.Sprintf("gateway-%03d", i), nil },
			Getenv: func(name string) (string, bool) {
				for k := range c.fronts {
					if name == fmt.Sprintf("NATS_%d", k+1) {
						return c.fronts[(i+k)%len(c.fronts)].listener.Addr().String(), true // each another order
					}
				}
				return secret, name == "NATS_GATEWAY_PASSWORD"
			},
		})
		if err != nil {
			return nil, err
		}
		g, err := newGateway(cfg.Bridges[0], filepath.Join(dir, cfg.Device.ID))
		if err != nil {
			return nil, err
		}
		f.gateways = append(f.gateways, g)
	}
	return f, nil
}

func newGateway(c config.Bridge, dir string) (*gateway, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	fs, err := journal.NewDirFS(dir)
	if err != nil {
		return nil, err
	}
	g := &gateway{}
	if g.journal, err = journal.Open(journal.Options{FS: fs, MaxSize: 32 << 20, SegmentSize: 1 << 20, WhenFull: journal.RefuseNew}); err != nil {
		return nil, err
	}
	if g.reader, err = g.journal.OpenReader("bridge/" + c.Name); err != nil {
		return nil, err
	}
	opts := bridge.Options{
		Options: outbox.Options{
			Name: c.Name, Window: c.Window, Queues: []*outbox.Queue{outbox.NewQueue(int(c.Priority), nil, g.reader)},
			Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})).With("gateway", c.ClientID),
		},
		ClientID: c.ClientID, KeepAlive: c.KeepAlive,
		Credentials: func() (string, string, error) { return c.Username, string(c.Password), nil },
	}
	for _, u := range c.Upstream {
		opts.Upstreams = append(opts.Upstreams, u.URL)
	}
	for _, r := range c.Out {
		opts.Out = append(opts.Out, bridge.Rule{Filter: r.Filter, QoS: r.QoS, Strip: r.Strip, Prefix: r.Prefix})
	}
	g.bridge, err = bridge.New(opts)
	return g, err
}

// fill makes n more messages durable in each gateway.
func (f *fleet) fill(n int) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for i, g := range f.gateways {
		w := &waiter{}
		w.Add(n)
		for seq := f.sent; seq < f.sent+n; seq++ {
			m := &broker.Message{Topic: fmt.Sprintf("sensors/gateway-%03d/air/temperature", i), QoS: 1, Payload: fmt.Appendf(nil, "%d %d", i, seq)}
			if err := g.journal.Append(journal.Entry{Message: m, Owed: []journal.Owed{{Reader: g.reader, QoS: 1}}, Done: w}); err != nil {
				return err
			}
		}
		wg.Go(func() {
			w.Wait()
			mu.Lock()
			defer mu.Unlock()
			if w.err != nil {
				failed = w.err
			}
		})
	}
	wg.Wait()
	f.sent += n
	return failed
}

// waiter is notified when messages are durable.
type waiter struct {
	sync.WaitGroup
	err error
}

func (w *waiter) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		w.err = err
	}
	w.Done()
}

func (f *fleet) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	for _, g := range f.gateways {
		f.work.Go(func() { _ = g.bridge.Run(ctx) })
	}
}

// depth is how many messages wait.
func (f *fleet) depth() (n uint64) {
	for _, g := range f.gateways {
		n += g.bridge.Stats().Depth
	}
	return n
}

// waitDepth waits until no more than n messages wait.
func (f *fleet) waitDepth(ctx context.Context, n uint64) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for f.depth() > n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			var errs string
			for _, g := range f.gateways {
				errs = g.bridge.Stats().LastError
			}
			return fmt.Errorf("%d messages still wait, the last error is %q: %w", f.depth(), errs, ctx.Err())
		}
	}
	return nil
}

// close stops the bridges. It may be called twice.
func (f *fleet) close() {
	f.stop()
	f.work.Wait()
	for _, g := range f.gateways {
		_ = g.journal.Close()
	}
	f.gateways = nil
}
