package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	lookEvery = 500 * time.Millisecond // at most, however many look
	keepAlive = 20 * time.Second       // of a page on which nothing changes
)

// view is what pages show, by key, as JSON. An event has the keys that have changed since the page's last event:
// a page that reads slowly gets fewer events, and nothing is queued for it.
type view struct {
	look func() map[string]any

	mu      sync.Mutex
	version uint64 // grows by one when anything changes
	looked  time.Time
	values  map[string]value
	streams int
}

type value struct {
	json    json.RawMessage // null if the key is gone
	version uint64
}

// refresh takes a snapshot of the gateway, unless the last one is recent. Called with mu held.
func (v *view) refresh(now time.Time) {
	if v.values == nil {
		v.values = map[string]value{}
	}
	if !v.looked.IsZero() && now.Sub(v.looked) < lookEvery*9/10 {
		return
	}
	v.looked = now
	seen := v.look()
	next := v.version + 1
	for key, x := range seen {
		data, err := json.Marshal(x)
		if err != nil {
			data, _ = json.Marshal(map[string]string{"error": err.Error()}) // such as a NaN
		}
		if old := v.values[key]; !bytes.Equal(old.json, data) {
			v.values[key] = value{data, next}
			v.version = next
		}
	}
	for key, old := range v.values {
		if _, there := seen[key]; !there && string(old.json) != "null" {
			v.values[key] = value{json.RawMessage("null"), next}
			v.version = next
		}
	}
}

// since returns what has changed after a version, which is 0 for everything.
func (v *view) since(version uint64) (changed map[string]json.RawMessage, now uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refresh(time.Now())
	if v.version == version {
		return nil, version
	}
	changed = map[string]json.RawMessage{}
	for key, x := range v.values {
		if x.version > version {
			changed[key] = x.json
		}
	}
	return changed, v.version
}

// enter counts a page, and reports whether there is a place for it.
func (v *view) enter() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.streams >= maxStreams {
		return false
	}
	v.streams++
	return true
}

// leave forgets everything with the last page.
func (v *view) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.streams--; v.streams == 0 {
		v.values, v.looked = nil, time.Time{}
	}
}

// event is one server-sent event.
type event struct {
	Now int64                      `json:"now"`           // milliseconds since 1970: the browser's clock may be another
	All bool                       `json:"all,omitempty"` // forget what you know: this is everything
	Set map[string]json.RawMessage `json:"set,omitempty"` // by key; null for one that is gone
	Log []line                     `json:"log,omitempty"` // further lines
}

// events is one page's stream of server-sent events, as long as its session lasts.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if !s.view.enter() {
		s.refused.pages.Add(1)
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusServiceUnavailable, fmt.Sprintf("%d pages are looking already", maxStreams))
		return
	}
	defer s.view.leave()
	s.open()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy is not to wait for more
	role := visitorOf(r).role
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the request is read, and the stream has no end
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var version, lastLine uint64
	var lastSent time.Time
	for first := true; ; first = false {
		if v, err := s.visitor(r); err != nil || v.role != role {
			return // logged out, or another role: the page asks who it is
		}
		now := time.Now()
		e := event{Now: now.UnixMilli(), All: first}
		e.Set, version = s.view.since(version)
		if e.Log = s.opts.Lines.after(lastLine); len(e.Log) > 0 {
			lastLine = e.Log[len(e.Log)-1].N
		}
		text := []byte(": still here\n\n")
		switch {
		case first || len(e.Set) > 0 || len(e.Log) > 0:
			data, err := json.Marshal(e)
			if err != nil {
				s.log.Error("dashboard: an event cannot be written", "error", err)
				return
			}
			text = append(append([]byte("data: "), data...), "\n\n"...)
		case now.Sub(lastSent) < keepAlive:
			text = nil
		}
		if text != nil {
			lastSent = now
			_ = control.SetWriteDeadline(now.Add(s.eventTime))
			if _, err := w.Write(text); err != nil || control.Flush() != nil {
				return // gone, or too slow: the browser connects again
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}
