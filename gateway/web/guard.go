package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"holdfast/broker/listen"
)

// Keys of a request's context.
type (
	remoteKey struct{} // the net.Addr of its connection
	placeKey  struct{} // the *place of its connection, nil if it has none
)

// policy lets the page load from this server alone, and nothing inline (W3C CSP 3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// guard checks every request.
func (s *Server) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, "the request comes from another web page")
	}))
	next = origin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
		if p, _ := r.Context().Value(placeKey{}).(*place); p != nil && !s.probes[r.URL.Path] {
			if !p.begin() {
				s.refused.note(s.log, r.RemoteAddr, false)
				h.Set("Connection", "close")
				fail(w, http.StatusServiceUnavailable, "too many requests at a time: close pages, or let programs ask less often")
				return
			}
			defer p.end()
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := s.fromHere(r); err != nil {
			fail(w, http.StatusForbidden, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fromHere refuses, where no login is required, requests that only seem to come from this device: from a web page
// whose name resolves to this device's address (DNS rebinding), and through a proxy.
func (s *Server) fromHere(r *http.Request) error {
	if s.wantsLogin() {
		return nil
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(name) != "" {
			return errors.New("this comes through a proxy, and no login is required: set web.view or web.operate")
		}
	}
	if err := (listen.Hosts{Loopback: true, Origins: []string{"*"}}).Check(r); err != nil { // origins: see guard
		return fmt.Errorf("%w: use http://localhost, or set web.view or web.operate so that one has to log in", err)
	}
	return nil
}

// only refuses visitors without a role.
func (s *Server) only(role Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := s.visitor(r)
		switch {
		case err != nil:
			failLogin(w, err)
		case v.role >= role:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitorKey{}, v)))
		case v.role == Anybody:
			fail(w, http.StatusUnauthorized, "log in first")
		default:
			fail(w, http.StatusForbidden, "outputs are moved by who has logged in and is named in web.operate")
		}
	})
}

// decode reads a request's JSON. That it has to be declared as JSON also keeps forms of other pages out.
func decode(r *http.Request, to any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return errors.New("want Content-Type: application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("JSON: something follows the object")
	}
	return nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the browser has gone
}

func fail(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": text})
}
