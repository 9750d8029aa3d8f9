// Package backoff spreads attempts that go on until one works.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff is the waits between attempts. They are random below a ceiling that doubles from Min to Max, so that what failed at
// the same moment does not come back at the same moment. It is for one goroutine.
type Backoff struct {
	Min, Max time.Duration
	ceiling  time.Duration // of the last wait; 0 before the first
}

func (b *Backoff) raise() time.Duration {
	if b.ceiling == 0 {
		b.ceiling = b.Min
	} else {
		b.ceiling = min(b.Max, 2*b.ceiling)
	}
	return b.ceiling
}

// Next returns how long to wait before an attempt that costs others something: between nothing and the ceiling ("full
// jitter"), so that many gateways do not come back to an upstream at the same moment.
func (b *Backoff) Next() time.Duration { return rand.N(b.raise() + 1) }

// Local returns how long to wait before an attempt that costs this machine alone: at least half of the ceiling.
func (b *Backoff) Local() time.Duration {
	ceiling := b.raise()
	return ceiling/2 + rand.N(ceiling/2+1)
}

// Reset starts over, after something has worked.
func (b *Backoff) Reset() { b.ceiling = 0 }

// Slow skips the short waits: the next ceiling is Max.
func (b *Backoff) Slow() { b.ceiling = b.Max }
