package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"holdfast/broker/auth"
)

const (
	maxSessions = 64
	sessionIdle = 24 * time.Hour // without a request, and without an open page
	sessionLife = 7 * 24 * time.Hour
	loginTime   = 10 * time.Second // to wait for other logins
)

var errNoRole = errors.New("this user may not see the dashboard: see web.view")

// visitor is who sends a request.
type visitor struct {
	user string // empty without a login
	role Role
}

type visitorKey struct{} // of a request's context: the visitor

func visitorOf(r *http.Request) visitor {
	v, _ := r.Context().Value(visitorKey{}).(visitor)
	return v
}

func (s *Server) wantsLogin() bool { return len(s.opts.View)+len(s.opts.Operate) > 0 }

// visitor returns the user and role that a request has; the zero value without a login.
func (s *Server) visitor(r *http.Request) (visitor, error) {
	if !s.wantsLogin() {
		return visitor{role: Role(s.local.Load())}, nil
	}
	if c, err := r.Cookie(s.cookie()); err == nil {
		if g := s.sessions.use(c.Value, time.Now()); g != nil {
			return visitor{g.User(), s.role(g)}, nil
		}
	}
	user, password, ok := r.BasicAuth()
	if !ok || r.Method != http.MethodGet {
		return visitor{}, nil
	}
	g, err := s.check(r, user, password)
	if err != nil {
		return visitor{}, err
	}
	return visitor{user, s.role(g)}, nil
}

func (s *Server) role(g *auth.Grant) Role {
	is := func(name string) bool { return name == "*" || g.Is(name) }
	switch {
	case g.Revoked():
		return Anybody
	case slices.ContainsFunc(s.opts.Operate, is):
		return Operate
	case slices.ContainsFunc(s.opts.View, is):
		return View
	}
	return Anybody
}

// check checks a password, with the delays and bounds of package auth.
func (s *Server) check(r *http.Request, user, password string) (*auth.Grant, error) {
	ctx, cancel := context.WithTimeout(r.Context(), loginTime)
	defer cancel()
	remote, _ := r.Context().Value(remoteKey{}).(net.Addr)
	return s.opts.Auth.Login(ctx, auth.Login{Username: user, Named: true, Password: []byte(password), Remote: remote})
}

func failLogin(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, auth.ErrThrottled):
		w.Header().Set("Retry-After", "60")
		fail(w, http.StatusTooManyRequests, "too many failed logins from there: wait a minute")
	case errors.Is(err, auth.ErrBadPassword):
		fail(w, http.StatusUnauthorized, "wrong name or password")
	case errors.Is(err, errNoRole):
		fail(w, http.StatusForbidden, err.Error())
	default:
		fail(w, http.StatusServiceUnavailable, "too many logins at once: try again")
	}
}

// cookie is the session's name. With the prefix, browsers take it only over TLS and for this host
// (RFC 6265bis, 4.1.3).
func (s *Server) cookie() string {
	if s.opts.TLS != nil {
		return "__Host-holdfast"
	}
	return "holdfast"
}

func (s *Server) setCookie(w http.ResponseWriter, token string, seconds int) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookie(), Value: token, Path: "/", MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.opts.TLS != nil,
	})
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var in struct{ User, Password string }
	if err := decode(r, &in); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if !s.wantsLogin() {
		fail(w, http.StatusBadRequest, "no login is required here")
		return
	}
	g, err := s.check(r, in.User, in.Password)
	if err == nil && s.role(g) == Anybody {
		err = errNoRole
	}
	if err != nil {
		s.log.Warn("dashboard: login refused", "remote", r.RemoteAddr, "error", err)
		failLogin(w, err)
		return
	}
	s.setCookie(w, s.sessions.add(g, time.Now()), int(sessionLife.Seconds()))
	s.writeSession(w, visitor{in.User, s.role(g)})
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(s.cookie()); err == nil {
		s.sessions.remove(c.Value)
	}
	s.setCookie(w, "", -1)
	s.writeSession(w, visitor{})
}

// session answers with the page's user and role.
func (s *Server) session(w http.ResponseWriter, r *http.Request) {
	v, err := s.visitor(r)
	if err != nil {
		failLogin(w, err)
		return
	}
	s.writeSession(w, v)
}

func (s *Server) writeSession(w http.ResponseWriter, v visitor) {
	answer(w, http.StatusOK, map[string]any{
		"device": s.opts.Device, "login": s.wantsLogin(), "user": v.user, "role": v.role.String(),
	})
}

// sessions are those who have logged in. They end with the process.
type sessions struct {
	mu sync.Mutex
	by map[[sha256.Size]byte]*session // by the hash of the token, so that a lookup's time reveals nothing of it
}

type session struct {
	grant       *auth.Grant
	begun, last time.Time
}

func (s *session) over(now time.Time) bool {
	return s.grant.Revoked() || now.Sub(s.last) > sessionIdle || now.Sub(s.begun) > sessionLife
}

// add begins a session and returns its token. When there are too many, the one unused for the longest
// time ends.
func (s *sessions) add(g *auth.Grant, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[[sha256.Size]byte]*session{}
	}
	var oldest [sha256.Size]byte
	for key, one := range s.by {
		if one.over(now) {
			delete(s.by, key)
		} else if o := s.by[oldest]; o == nil || one.last.Before(o.last) {
			oldest = key
		}
	}
	if len(s.by) >= maxSessions {
		delete(s.by, oldest)
	}
	token := rand.Text() // 128 bits or more
	s.by[sha256.Sum256([]byte(token))] = &session{g, now, now}
	return token
}

// use returns the login of a session, nil if there is none.
func (s *sessions) use(token string, now time.Time) *auth.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(token))
	one := s.by[key]
	if one == nil {
		return nil
	}
	if one.over(now) {
		delete(s.by, key)
		return nil
	}
	one.last = now
	return one.grant
}

func (s *sessions) remove(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, sha256.Sum256([]byte(token)))
}
