package auth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits on failed logins.
const (
	freeFailures = 5                // without a delay: people mistype
	firstDelay   = time.Second      // after the next one; it doubles with each further one
	longestDelay = time.Minute      //
	forgetAfter  = 10 * time.Minute // without a failure
	maxSources   = 4096             // addresses, and user names of this machine, that are remembered
)

// Limits on failed logins from this machine, where all programs share one address: they take turns.
const (
	turnEvery    = 2 * time.Second        // between checks for one user name, after freeFailures
	allFree      = 20                     // failures of all user names together without a delay
	allTurnEvery = 250 * time.Millisecond // between checks for all user names together, after allFree
	longestTurn  = 8 * time.Second        // until a turn; less than a client has for its CONNECT
	maxProven    = 1024                   // pairs of user name and client identifier that are remembered
)

// throttle delays addresses whose logins fail.
type throttle struct {
	mu      sync.Mutex // guards everything below; no other lock is taken under it
	sources map[string]*source
	proven  map[string]struct{} // lanes of local clients whose password was right once
}

type source struct {
	failures int
	last     time.Time
	until    time.Time // of an address: refuse logins until then; of a lane: the time of its next turn
}

// laneOfAll is the lane that all local logins share but those of proven clients.
const laneOfAll = "local"

// lane is the name under which local logins are counted, of 16 bytes however long the texts are.
func lane(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return string(h.Sum(nil)[:16])
}

// localLanes returns the lanes that count a local login, and those of them that it waits in. A client that has
// shown the right password before has a lane of its own, so that failures of other clients, however many, do not delay
// it. If the user exists and its own lane has no turns, failures under other names do not delay the login either, even of
// a client never seen before: a guesser gains freeFailures for each user by that, and one that floods the device
// learns from the delay which names exist.
func (t *throttle) localLanes(user, client string, known bool, now time.Time) (counted, waits []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own := lane(user, client); client != "" {
		if _, ok := t.proven[own]; ok {
			return []string{own}, []string{own}
		}
	}
	name := lane(user)
	if known && t.delayed(name, now) == nil {
		return []string{name, laneOfAll}, []string{name}
	}
	return []string{name, laneOfAll}, []string{name, laneOfAll}
}

// prove notes that a client of this machine has shown the right password.
func (t *throttle) prove(user, client string) {
	if client == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	own := lane(user, client)
	if _, known := t.proven[own]; known {
		return
	}
	if t.proven == nil {
		t.proven = map[string]struct{}{}
	}
	for other := range t.proven {
		if len(t.proven) < maxProven {
			break
		}
		delete(t.proven, other)
	}
	t.proven[own] = struct{}{}
}

// pace returns after how many failures a lane delays logins, and by how much.
func pace(lane string) (free int, every time.Duration) {
	if lane == laneOfAll {
		return allFree, allTurnEvery
	}
	return freeFailures, turnEvery
}

// delayed returns a lane that has turns, or nil. Called with mu held.
func (t *throttle) delayed(name string, now time.Time) *source {
	free, _ := pace(name)
	if s := t.sources[name]; s != nil && s.failures >= free && now.Sub(s.last) <= forgetAfter {
		return s
	}
	return nil
}

// slow reports whether one of the lanes has turns.
func (t *throttle) slow(lanes []string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(lanes, func(name string) bool { return t.delayed(name, now) != nil })
}

// reserve takes a turn for a local login in all its lanes and returns how long to wait for it. If that is longer than
// longestTurn it takes none, and ok is false. taken reports whether any of the lanes has turns.
func (t *throttle) reserve(lanes []string, now time.Time) (wait time.Duration, taken, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := now
	for _, name := range lanes {
		if s := t.delayed(name, now); s != nil {
			taken = true
			if s.until.After(at) {
				at = s.until
			}
		}
	}
	if wait = at.Sub(now); wait > longestTurn {
		return wait, taken, false
	}
	for _, name := range lanes {
		if s := t.delayed(name, now); s != nil {
			_, every := pace(name)
			s.until = at.Add(every)
		}
	}
	return wait, taken, true
}

// turn waits for the turn of a local login. had reports whether its lanes have turns. The error is
// ErrThrottled if too many logins wait already, or that of ctx.
func (t *throttle) turn(ctx context.Context, lanes []string) (had bool, err error) {
	wait, taken, ok := t.reserve(lanes, time.Now())
	if !ok {
		return taken, ErrThrottled
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return taken, ctx.Err()
		}
	}
	return taken, nil
}

// failedHere notes a failure of a local login.
func (t *throttle) failedHere(lanes []string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range lanes {
		s := t.note(name, now)
		if free, every := pace(name); s.failures >= free && s.until.Before(now.Add(every)) {
			s.until = now.Add(every)
		}
	}
}

// blocked reports whether to refuse a login from an address without checking it.
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
	s := t.note(key, now)
	if n := s.failures - freeFailures; n > 0 {
		s.until = now.Add(min(firstDelay<<min(n-1, 10), longestDelay))
	}
}

// note counts a failure. Called with mu held.
func (t *throttle) note(key string, now time.Time) *source {
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
	return s
}

// makeRoom evicts expired entries, and if there are none, the one with the fewest failures, of those the oldest: many
// addresses that fail once each do not evict one that is being delayed.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.sources) < maxSources {
		return
	}
	least := ""
	for key, s := range t.sources {
		other := t.sources[least]
		switch {
		case now.Sub(s.last) > forgetAfter:
			delete(t.sources, key)
		case other == nil || s.failures < other.failures || s.failures == other.failures && s.last.Before(other.last):
			least = key
		}
	}
	if len(t.sources) >= maxSources {
		delete(t.sources, least)
	}
}

// Source returns the key that an address is counted under: an IPv6 address counts as its /64, because a customer
// has a whole one. It is empty for an address of this machine.
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
