// Package web serves the dashboard: a page with live readings, outputs, bridges and the log, for the
// browsers of people who look after a gateway.
//
// It promises: requests are bounded in size, number and time and never hold up the
// gateway; a port that is taken is a warning and is tried again; where a login is required, only the page
// itself is served without one; no other web page can act through a visitor's browser; the page
// loads nothing from anywhere else. While no page is open nothing is computed but the history of readings.
//
// It keeps nothing durable, does not decide what an output does with a command, and does not import the
// gateway, which hands over what is shown.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/backoff"
	"holdfast/broker/listen"
)

// Limits on what browsers may cost.
const (
	maxConnections = 64
	maxFromOne     = 32       // connections of one address
	maxWorking     = 48       // connections with a request in work; the others are left for probes
	maxStreams     = 16       // pages that look at the same time
	maxHeader      = 16 << 10 // bytes
	maxBody        = 16 << 10 // bytes
	headerTime     = 5 * time.Second
	requestTime    = 15 * time.Second // to send a request
	answerTime     = 30 * time.Second // to take an answer
	eventTime      = 10 * time.Second // to take an event
	idleTime       = 60 * time.Second
)

// Role is what a visitor may do.
type Role int

// The roles. Each may do what those before it may.
const (
	Anybody Role = iota // not logged in
	View                // look
	Operate             // move outputs
)

func (r Role) String() string { return [...]string{"", "view", "operate"}[r] }

// Options configure a Server.
type Options struct {
	Address string      // to listen on, for package net
	TLS     *listen.TLS // nil for plain HTTP
	Device  string      // shown before a login as well

	// Auth checks the users. Those in View and Operate, by their names or their groups' ("*" for every
	// user), may log in. Without either no login is required, and every visitor has the role Local.
	Auth          *auth.Auth
	View, Operate []string
	Local         Role

	// Look returns what the page shows, by key. It is called at most twice a second, and only while a
	// page is open; Opened once, in a goroutine of its own, when a page is opened for the first time.
	Look   func() map[string]any
	Opened func(ctx context.Context) // nil for nothing
	// Command moves an output and returns the answer as JSON. It ends with ctx.
	Command func(ctx context.Context, output string, c Command) (json.RawMessage, error)
	// Config returns the configuration as text without secrets; nil if there is none.
	Config  func() (string, error)
	History *History
	Lines   *Log

	Log *slog.Logger // nil discards
}

// Server is the dashboard. Methods are safe for concurrent use.
type Server struct {
	opts     Options
	log      *slog.Logger
	mux      *http.ServeMux
	probes   map[string]bool // by path
	http     *http.Server
	sessions sessions
	assets   *assets
	view     view
	refused  refusals
	local    atomic.Int32 // Role of every visitor where no login is required

	eventTime time.Duration
	opened    sync.Once
	work      sync.WaitGroup  // of Opened
	life      context.Context // of Run
	mu        sync.Mutex
	addr      net.Addr  // nil while it does not listen
	failed    error     // why it does not listen; nil if it does, or has not begun
	since     time.Time // that it is so
}

// SetLocal changes Options.Local while the server runs.
func (s *Server) SetLocal(r Role) { s.local.Store(int32(r)) }

// New builds the server. It listens when Run is called.
func New(opts Options) *Server {
	s := &Server{opts: opts, log: opts.Log, mux: http.NewServeMux(), probes: map[string]bool{}, assets: newAssets(), view: view{look: opts.Look}, eventTime: eventTime}
	s.SetLocal(opts.Local)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.http = &http.Server{
		Handler: s.guard(s.mux), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what strangers do is no error of ours
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			ctx = context.WithValue(ctx, remoteKey{}, c.RemoteAddr())
			return context.WithValue(ctx, placeKey{}, placeOf(c))
		},
	}
	s.mux.HandleFunc("GET /{$}", s.assets.page)
	s.mux.HandleFunc("GET /assets/{version}/{name}", s.assets.file)
	s.mux.HandleFunc("GET /api/session", s.session)
	s.mux.HandleFunc("POST /api/login", s.login)
	s.mux.HandleFunc("POST /api/logout", s.logout)
	s.Handle("GET /api/events", View, http.HandlerFunc(s.events))
	s.Handle("GET /api/history", View, http.HandlerFunc(s.history))
	s.Handle("GET /api/config", View, http.HandlerFunc(s.config))
	s.Handle("POST /api/outputs/{name}", Operate, http.HandlerFunc(s.command))
	return s
}

// open calls Opened, unless it was called before.
func (s *Server) open() {
	s.opened.Do(func() {
		if s.opts.Opened == nil {
			return
		}
		s.mu.Lock()
		life := s.life
		s.mu.Unlock()
		s.work.Go(func() { s.opts.Opened(life) })
	})
}

// config shows the configuration, and what is wrong with it.
func (s *Server) config(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Config == nil {
		fail(w, http.StatusNotFound, "the configuration did not come from files")
		return
	}
	text, err := s.opts.Config()
	out := map[string]string{"text": text}
	if err != nil {
		out["mistakes"] = err.Error()
	}
	answer(w, http.StatusOK, out)
}

// Handle adds a page for those who have a role, before Run. A handler with a role also takes the name
// and password of HTTP's basic authentication, for programs.
func (s *Server) Handle(pattern string, role Role, h http.Handler) {
	s.mux.Handle(pattern, s.only(role, h))
}

// Probe adds a short page for everybody, before Run. It is answered also while as many other requests as may be are in
// work.
func (s *Server) Probe(path string, h http.Handler) {
	s.probes[path] = true
	s.Handle("GET "+path, Anybody, h)
}

// Addr is where the server listens, nil while it does not.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Refused returns how many connections and pages were refused at limits.
func (s *Server) Refused() Refused {
	r := &s.refused
	return Refused{All: r.all.Load(), Address: r.address.Load(), Pages: r.pages.Load()}
}

// Failure returns why the server does not listen, nil if it does or has not been started, and since when that
// is so.
func (s *Server) Failure() (since time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.failed
}

const firstRetry, longestRetry = time.Second, 10 * time.Second

// Run serves until ctx ends. It always returns nil: a gateway works without its dashboard.
func (s *Server) Run(ctx context.Context) error {
	defer s.work.Wait()
	wait, logged := backoff.Backoff{Min: firstRetry, Max: longestRetry}, false
	for ctx.Err() == nil {
		l, err := s.listen(ctx)
		if err == nil {
			logged = false
			wait.Reset()
			err = s.serve(ctx, l)
		}
		if ctx.Err() != nil {
			break
		}
		s.mu.Lock()
		if s.failed == nil {
			s.since = time.Now()
		}
		s.failed = err
		s.mu.Unlock()
		if !logged {
			s.log.Warn("the dashboard cannot be served: trying again", "address", s.opts.Address, "error", err)
			logged = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.Local()):
		}
	}
	return nil
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	if t := s.opts.TLS; t != nil && !t.Loaded() {
		if err := t.Reload(); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, listen.Network("tcp", s.opts.Address), s.opts.Address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = errors.Join(err, errors.New("another program has the port: choose another one in web.url, or off"))
	case errors.Is(err, syscall.EACCES):
		err = errors.Join(err, errors.New("ports below 1024 need rights that this user has not: choose another one in web.url"))
	}
	if err != nil {
		return nil, err
	}
	return &limited{
		Listener: l, tls: listen.Options{TLS: s.opts.TLS}, places: map[*place]struct{}{},
		refused: func(remote string, ofAddress bool) { s.refused.note(s.log, remote, ofAddress) },
	}, nil
}

// serve serves on l until ctx ends or l fails.
func (s *Server) serve(ctx context.Context, l net.Listener) error {
	s.mu.Lock()
	s.addr, s.life, s.failed, s.since = l.Addr(), ctx, nil, time.Now()
	s.mu.Unlock()
	scheme := "http"
	if s.opts.TLS != nil {
		scheme = "https"
	}
	s.log.Info("dashboard", "url", scheme+"://"+l.Addr().String())
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(l) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		if s.http.Shutdown(last) != nil {
			s.http.Close()
		}
		cancel()
		<-failed
	}
	s.mu.Lock()
	s.addr = nil
	s.mu.Unlock()
	return err
}
