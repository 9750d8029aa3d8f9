package limits

import (
	"net"
	"sync"
	"time"

	"holdfast/broker/auth"
)

// burst is how many seconds' worth of connections may come at once, after a quiet time.
const burst = 5

// maxAddresses bounds the table of addresses. In a full table a new address evicts another one: of lookedAt
// candidates the one with the most tokens left, so that an address over its limit stays in the table. The limit on
// all addresses together holds in any case.
const (
	maxAddresses = 4096
	lookedAt     = 16
)

// Rate limits the rate of new connections, in all and from one address (of IPv6: one /64). It does not count those from this
// machine. It is safe for concurrent use.
type Rate struct {
	all, each float64 // per second; 0 for no limit

	mu        sync.Mutex
	total     bucket
	addresses map[string]bucket
	refused   int // since the last time it was logged
	logged    time.Time
}

// NewRate returns a limit of so many connections per second, in all and from one address; 0 means no limit.
func NewRate(all, each float64) *Rate { return &Rate{all: all, each: each} }

// bucket is a token bucket: left is the number of connections that may come at once.
type bucket struct {
	left float64
	at   time.Time // zero for a full one
}

func (b bucket) refilled(rate float64, now time.Time) bucket {
	full := max(1, rate*burst)
	if b.at.IsZero() {
		return bucket{full, now}
	}
	return bucket{min(full, b.left+rate*now.Sub(b.at).Seconds()), now}
}

// Allows reports whether to accept a connection. If not, and it is time to log that, report is the number of
// connections refused since the last log line; otherwise it is 0.
func (a *Rate) Allows(remote net.Addr, now time.Time) (ok bool, report int) {
	from := auth.Source(remote)
	if from == "" || a.all <= 0 && a.each <= 0 {
		return true, 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	total, one := a.total.refilled(a.all, now), a.addresses[from].refilled(a.each, now)
	ok = (a.all <= 0 || total.left >= 1) && (a.each <= 0 || one.left >= 1)
	if ok {
		total.left--
		one.left--
	} else {
		a.refused++
		if now.Sub(a.logged) >= 10*time.Second {
			report, a.refused, a.logged = a.refused, 0, now
		}
	}
	a.total = total
	if a.each > 0 {
		a.remember(from, one)
	}
	return ok, report
}

func (a *Rate) remember(from string, b bucket) {
	if a.addresses == nil {
		a.addresses = map[string]bucket{}
	}
	if _, known := a.addresses[from]; !known && len(a.addresses) >= maxAddresses {
		fullest, most, n := "", -1.0, 0
		for other, has := range a.addresses { // in an order of chance
			if left := has.refilled(a.each, b.at).left; left > most {
				fullest, most = other, left
			}
			if n++; n == lookedAt {
				break
			}
		}
		delete(a.addresses, fullest)
	}
	a.addresses[from] = b
}
