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
		nc, err := b.opts.Dial(ctx, b.upstreams[0])
		if err != nil {
			good = 0
			continue
		}
		nc.Close()
		if good++; good < healthy {
			continue
		}
		l, err := b.connect(ctx, b.upstreams[0])
		if err != nil {
			b.log.Debug("first upstream can be reached and not be used", "reason", err)
			good, every = 0, min(2*every, time.Hour)
			continue
		}
		found <- l
		return
	}
}
