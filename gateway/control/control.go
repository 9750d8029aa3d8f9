// Package control serves the machine's administrator: HTTP over a unix socket, which `holdfast status`
// and other commands use. A process that may write to the socket may do everything that is offered there, so its
// mode is the only lock.
//
// It promises not to take over the socket of a gateway that runs, and never to hold one up: a gateway
// works without its control socket, which is logged and tried again. It does not import the gateway,
// which hands over what is served.
package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"holdfast/broker/backoff"
	"holdfast/broker/listen"
)

const (
	maxConnections = 16
	maxHeader      = 16 << 10 // bytes
	headerTime     = 5 * time.Second
	idleTime       = time.Minute
)

// name of the socket where nothing else says so.
const name = "control.sock"

// Path is where the gateway listens: the configured path, or under systemd (RuntimeDirectory=) the directory
// of the unit below /run, or the data directory.
func Path(configured, dataDir string) string {
	if configured != "" {
		return configured
	}
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, name)
	}
	return filepath.Join(dataDir, name)
}

// Server answers on the socket.
type Server struct {
	path string
	log  *slog.Logger
	mux  *http.ServeMux
	http *http.Server

	mu     sync.Mutex // guards the following
	failed error      // why the socket is not open
	since  time.Time  // that it is so
}

// Failure returns why the socket is not open, nil if it is or the server has not been started, and since when.
func (s *Server) Failure() (since time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.failed
}

func (s *Server) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (err == nil) != (s.failed == nil) || s.since.IsZero() {
		s.since = time.Now()
	}
	s.failed = err
}

// New returns a server that listens when Run is called.
func New(path string, log *slog.Logger) *Server {
	s := &Server{path: path, log: log, mux: http.NewServeMux()}
	s.http = &http.Server{
		Handler: s.mux, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Handle adds what is served, before Run. Patterns are those of http.ServeMux. Handlers bound the bodies
// that they read.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Path is where the server listens.
func (s *Server) Path() string { return s.path }

const firstRetry, longestRetry = time.Second, 10 * time.Second

// Run serves until ctx ends, and ends what is being served with it. It always returns nil.
func (s *Server) Run(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	wait := backoff.Backoff{Min: firstRetry, Max: longestRetry}
	for logged := false; ctx.Err() == nil; {
		l, err := listen.Unix(ctx, s.path, 0)
		if err == nil {
			s.note(nil)
			s.serve(ctx, l)
			return nil
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			err = errors.Join(err, errors.New("another holdfast runs: give this one its own path in control"))
		}
		s.note(err)
		if !logged {
			s.log.Warn("holdfast status and reload will not work: the control socket cannot be opened; trying again", "error", err)
			logged = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.Local()):
		}
	}
	return nil
}

func (s *Server) serve(ctx context.Context, l net.Listener) {
	s.log.Debug("control socket open", "path", s.path)
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.http.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the control socket has failed", "error", err)
		}
	})
	<-ctx.Done()
	// Requests see their context end; what does not heed it is cut off.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if s.http.Shutdown(last) != nil {
		s.http.Close()
	}
	work.Wait()
}
