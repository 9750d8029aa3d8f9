package bridge

import (
	"math/rand/v2"
	"time"
)

// backoff spreads attempts to connect: each wait is random between nothing and a ceiling ("full
// jitter"), so that many gateways do not come back to an upstream at the same moment.
type backoff struct {
	min, max time.Duration
	ceiling  time.Duration // of the last wait; 0 before the first
}

// next returns how long to wait. The ceiling doubles from min to max.
func (b *backoff) next() time.Duration {
	if b.ceiling == 0 {
		b.ceiling = b.min
	} else {
		b.ceiling = min(b.max, 2*b.ceiling)
	}
	return rand.N(b.ceiling + 1)
}

func (b *backoff) reset() { b.ceiling = 0 }
