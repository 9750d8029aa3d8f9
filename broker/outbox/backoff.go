package outbox

import (
	"math/rand/v2"
	"time"
)

// Backoff spreads attempts: each wait is random between nothing and a ceiling ("full jitter"), so that many
// gateways do not come back to an upstream at the same moment. The ceiling doubles from Min to Max. It is for one
// goroutine.
type Backoff struct {
	Min, Max time.Duration
	ceiling  time.Duration // of the last wait; 0 before the first
}

// Next returns how long to wait.
func (b *Backoff) Next() time.Duration {
	if b.ceiling == 0 {
		b.ceiling = b.Min
	} else {
		b.ceiling = min(b.Max, 2*b.ceiling)
	}
	return rand.N(b.ceiling + 1)
}

// Reset starts over, after something has worked.
func (b *Backoff) Reset() { b.ceiling = 0 }

// Slow skips the short waits: the next ceiling is Max.
func (b *Backoff) Slow() { b.ceiling = b.Max }
