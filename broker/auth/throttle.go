package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits on failed logins.
const (
	freeFailures = 5                // without a delay: people mistype
	firstDelay   = time.Second      // after the next one; it doubles with each further one
	longestDelay = time.Minute      //
	forgetAfter  = 10 * time.Minute // without a failure
	maxSources   = 4096             // addresses that are remembered
)

// throttle delays addresses whose logins fail.
type throttle struct {
	mu      sync.Mutex
	sources map[string]*source
}

type source struct {
	failures    int
	last, until time.Time
}

// blocked says whether a login from there has to be refused unseen.
func (t *throttle) blocked(key string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[key]
	return s != nil && now.Before(s.until)
}

// failed notes a failure.
func (t *throttle) failed(key string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[key]
	if s == nil {
		t.makeRoom(now)
		s = &source{}
		t.sources[key] = s
	}
	if now.Sub(s.last) > forgetAfter {
		s.failures = 0
	}
	s.failures++
	s.last = now
	if n := s.failures - freeFailures; n > 0 {
		s.until = now.Add(min(firstDelay<<min(n-1, 10), longestDelay))
	}
}

// makeRoom forgets what is old, and if nothing is, who failed the longest time ago.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.sources) < maxSources {
		return
	}
	oldest := ""
	for key, s := range t.sources {
		if now.Sub(s.last) > forgetAfter {
			delete(t.sources, key)
		} else if oldest == "" || s.last.Before(t.sources[oldest].last) {
			oldest = key
		}
	}
	if len(t.sources) >= maxSources {
		delete(t.sources, oldest)
	}
}

// Source is what an address is counted under: a customer of an IPv6 provider has a whole /64. It is
// empty for one that is on this machine.
func Source(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip, ok := netip.AddrFromSlice(tcp.IP)
	ip = ip.Unmap()
	switch {
	case !ok || ip.IsLoopback():
		return ""
	case ip.Is6():
		p, _ := ip.WithZone("").Prefix(64)
		return p.String()
	}
	return ip.String()
}
