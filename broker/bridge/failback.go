package bridge

import (
	"context"
	"math/rand/v2"
	"time"
)

// healthy is how often in a row the first upstream has to be reached before it is connected to again.
const healthy = 3

// probe looks, while another upstream is in use, whether the first one can be reached again. If it can
// for a while, it connects, and only then is the other one left: an upstream that accepts connections
// and does not speak interrupts nothing.
func (b *Bridge) probe(ctx context.Context, found chan<- *link) {
	every := b.opts.FailBack / healthy
	for good := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every/2 + rand.N(every)):
		}
		nc, err := b.opts.Dial(ctx, b.upstreams.all[0])
		if err != nil {
			good = 0
			continue
		}
		nc.Close()
		if good++; good < healthy {
			continue
		}
		l, err := b.connect(ctx, b.upstreams.all[0])
		if err != nil {
			b.log.Debug("first upstream can be reached and not be used", "reason", err)
			good, every = 0, min(2*every, time.Hour)
			continue
		}
		found <- l
		return
	}
}

// search looks for a better connection while one is in use. All but the goroutine that it starts is for the outbox's.
type search struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when the goroutine has
	found  chan *link    // has room for it
	better *link         // to the first upstream, instead of this one
}

// begin looks for the first upstream if another one is in use.
func (s *search) begin(b *Bridge) {
	s.found, s.ended = make(chan *link, 1), make(chan struct{})
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	elsewhere := b.upstreams.at > 0
	go func() {
		defer close(s.ended)
		if elsewhere {
			b.probe(ctx, s.found)
		}
	}()
}

// end ends the search. If it has found a connection by then, better is that.
func (s *search) end() {
	s.cancel()
	<-s.ended
	if s.better == nil {
		select {
		case s.better = <-s.found:
		default:
		}
	}
}
