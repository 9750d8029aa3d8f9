package bridge

import (
	"net/url"
	"sync"
	"time"
)

// upstreams chooses which upstream is tried next: those of the configuration in turn. It is for Run's goroutine, but for
// all, which does not change.
type upstreams struct {
	all      []*url.URL
	at       int      // in all, to be tried next
	target   *url.URL // connected to, or tried last
	redirect *url.URL // named by the upstream, to be tried instead, once
	moves    int      // references followed since a connection was worth its attempt
	ready    *link    // to the first upstream, made while another one was in use
}

// next sets target to the upstream to try now, and returns it.
func (u *upstreams) next() *url.URL {
	if u.ready != nil {
		u.at = 0
	}
	if u.target = u.all[u.at]; u.redirect != nil {
		u.target, u.redirect = u.redirect, nil
	}
	return u.target
}

// take returns the connection that is ready, if there is one.
func (u *upstreams) take() (l *link) {
	l, u.ready = u.ready, nil
	return l
}

// failed turns to the upstream after the one that was tried.
func (u *upstreams) failed() { u.at = (u.at + 1) % len(u.all) }

// negativeTTL is how long an upstream that did not speak MQTT 5, or takes no will, is not asked again. By then it may
// be another one, have restarted, or be configured differently.
const negativeTTL = time.Hour

// untilByHost remembers, for negativeTTL, which upstreams lack something. Its zero value is empty; it is safe for concurrent
// use.
type untilByHost struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (h *untilByHost) note(u *url.URL) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until == nil {
		h.until = map[string]time.Time{}
	}
	h.until[u.Host] = time.Now().Add(negativeTTL)
}

// has reports whether an upstream lacks it, as far as is known.
func (h *untilByHost) has(u *url.URL) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, ok := h.until[u.Host]
	return ok && time.Now().Before(until)
}
