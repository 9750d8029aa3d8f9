package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stage is what a page is shown in tests.
type stage struct {
	mu    sync.Mutex
	shown map[string]any
	looks int
}

func (s *stage) set(key string, v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v == nil {
		delete(s.shown, key)
		return
	}
	s.shown[key] = v
}

func (s *stage) look() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	copied := map[string]any{}
	for key, v := range s.shown {
		copied[key] = v
	}
	return copied
}

// watch opens a stream and returns what reads its next event, which may be nothing any more.
func (b *served) watch(t *testing.T) (next func() (event, error), close func()) {
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", b.base+"/api/events", nil)
	resp, err := b.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %v", resp.Status)
	}
	lines := bufio.NewReader(resp.Body)
	return func() (e event, err error) {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return e, err
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				return e, json.Unmarshal([]byte(data), &e)
			}
		}
	}, cancel
}

func TestEvents(t *testing.T) {
	st := &stage{shown: map[string]any{"a": 1, "b": "two", "c": math.NaN()}}
	lines := NewLog()
	log := slog.New(lines.Handler(slog.DiscardHandler))
	log.Info("first")
	opened := make(chan struct{})
	s := serve(t, Options{Look: st.look, Lines: lines, Local: View, Opened: func(context.Context) { close(opened) }})
	next, _ := s.watch(t)
	e, err := next()
	if err != nil || !e.All || string(e.Set["a"]) != "1" || string(e.Set["b"]) != `"two"` || !strings.Contains(string(e.Set["c"]), "error") || len(e.Log) != 1 || e.Now == 0 {
		t.Fatalf("got %+v, %v", e, err)
	}
	<-opened
	st.set("a", 2)
	st.set("b", nil)
	log.Info("second")
	seen := event{Set: map[string]json.RawMessage{}}
	for len(seen.Set) < 2 || len(seen.Log) < 1 { // it may take two looks
		e, err := next()
		if err != nil || e.All {
			t.Fatalf("got %+v, %v", e, err)
		}
		for key, v := range e.Set {
			seen.Set[key] = v
		}
		seen.Log = append(seen.Log, e.Log...)
	}
	if string(seen.Set["a"]) != "2" || string(seen.Set["b"]) != "null" || seen.Log[0].Text != "second" {
		t.Errorf("got %+v", seen)
	}
	// A later page gets every key that exists, and no others.
	later, _ := s.watch(t)
	e, err = later()
	if err != nil || !e.All || string(e.Set["a"]) != "2" || len(e.Log) != 2 {
		t.Errorf("got %+v, %v", e, err)
	}
}

// TestNoPageIsOpen: nothing is computed while no page is open, and never twice for two pages.
func TestNoPageIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stage{shown: map[string]any{"a": 1}}
		v := view{look: st.look}
		time.Sleep(time.Hour)
		if st.looks != 0 {
			t.Error("a snapshot was taken")
		}
		v.enter()
		v.enter()
		var one, two uint64
		for range 10 {
			_, one = v.since(one)
			_, two = v.since(two)
			time.Sleep(lookEvery)
		}
		if st.looks != 10 || one != 1 || two != 1 {
			t.Errorf("%d looks for two pages, want 10; versions %d and %d", st.looks, one, two)
		}
		v.leave()
		v.leave()
		if v.values != nil {
			t.Error("what was shown is still in memory")
		}
	})
}

// TestStreamsAreBounded: one too many gets an error, and there is a place again when one ends.
func TestStreamsAreBounded(t *testing.T) {
	st := &stage{shown: map[string]any{}}
	s := serve(t, Options{Look: st.look, Lines: NewLog(), Local: View})
	var closes []func()
	for range maxStreams {
		next, cancel := s.watch(t)
		if _, err := next(); err != nil {
			t.Fatal(err)
		}
		closes = append(closes, cancel)
	}
	resp := s.want(503, "looking already", "GET", "/api/events", "")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	closes[0]()
	for { // until the server has noticed
		resp, err := s.http.Get(s.base + "/api/events")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			break
		}
	}
}

// TestSlowPage: one that does not read is disconnected, and until then others get every event.
func TestSlowPage(t *testing.T) {
	var n atomic.Int64
	s := serve(t, Options{Lines: NewLog(), Local: View, Look: func() map[string]any {
		return map[string]any{"big": fmt.Sprint(n.Add(1), strings.Repeat("x", 4<<20))}
	}}, func(s *Server) { s.eventTime = 5 * time.Second }) // which the other page has to keep
	slow, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprint(slow, "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	next, cancel := s.watch(t)
	defer cancel()
	for left := false; !left; {
		if _, err := next(); err != nil {
			t.Fatal(err)
		}
		s.view.mu.Lock()
		left = s.view.streams == 1 && n.Load() > 3
		s.view.mu.Unlock()
	}
}

// TestLoggedOutPagesAreToldNothing: the stream ends with the session.
func TestLoggedOutPagesAreToldNothing(t *testing.T) {
	st := &stage{shown: map[string]any{"a": 1}}
	opts := users(t)
	opts.Look, opts.Lines = st.look, NewLog()
	s := serve(t, opts)
	s.want(401, "log in", "GET", "/api/events", "")
	s.want(401, "log in", "GET", "/api/history", "")
	s.want(401, "log in", "GET", "/api/config", "")
	s.want(200, "ben", "POST", "/api/login", ben)
	next, _ := s.watch(t)
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	s.want(200, "", "POST", "/api/logout", "")
	st.set("a", 2)
	if e, err := next(); err == nil {
		t.Errorf("told %+v after the logout", e)
	}
}

func TestCommand(t *testing.T) {
	var got Command
	reply := func() (json.RawMessage, error) { return json.RawMessage(`{"result":"done"}`), nil }
	opts := users(t)
	opts.Command = func(ctx context.Context, output string, c Command) (json.RawMessage, error) {
		got = c
		if output != "pump" {
			return nil, errors.New("there is no output of this name")
		}
		return reply()
	}
	s := serve(t, opts)
	const on = `{"value":true,"id":"1"}`
	s.want(401, "log in", "POST", "/api/outputs/pump", on)
	s.want(200, "ben", "POST", "/api/login", ben)
	s.want(403, "web.operate", "POST", "/api/outputs/pump", on)
	s.want(200, "anna", "POST", "/api/login", anna)
	s.want(200, `{"result":"done"}`, "POST", "/api/outputs/pump", on)
	if string(got.Value) != "true" || got.ID != "1" || got.By != "dashboard anna" {
		t.Errorf("got %+v", got)
	}
	s.want(403, "another web page", "POST", "/api/outputs/pump", on, header("Sec-Fetch-Site", "cross-site"))
	s.want(503, "no output", "POST", "/api/outputs/none", on)
	s.want(400, "value: missing", "POST", "/api/outputs/pump", `{"id":"1"}`)
	s.want(400, "id: want", "POST", "/api/outputs/pump", `{"value":1}`)
	s.want(400, "id: want", "POST", "/api/outputs/pump", `{"value":1,"id":"`+strings.Repeat("x", 65)+`"}`)
	s.want(400, "unknown field", "POST", "/api/outputs/pump", `{"value":1,"id":"1","by":"somebody else"}`)
	s.want(404, "", "POST", "/api/outputs/", on)
	reply = func() (json.RawMessage, error) { return nil, context.DeadlineExceeded }
	s.want(504, "no answer yet", "POST", "/api/outputs/pump", on)
}

func TestHistoryAndConfigurationAnswers(t *testing.T) {
	h := NewHistory()
	h.Add("air/temperature", time.Now(), 21.5)
	s := serve(t, Options{Local: View, History: h, Config: func() (string, error) { return "device: {}", errors.New("line 3") }})
	s.want(200, `"air/temperature":{"t":[`, "GET", "/api/history", "")
	s.want(200, `"v":[21.5],"lo":[21.5],"hi":[21.5]`, "GET", "/api/history?series=air/temperature", "")
	s.want(404, "nothing is remembered", "GET", "/api/history?series=air/none", "")
	s.want(200, `{"mistakes":"line 3","text":"device: {}"}`, "GET", "/api/config", "")
}
