package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/listen"
	"holdfast/broker/wire"
)

// handshake gives the client its time until CONNECT and does what the listener has to do before MQTT:
// TLS and WebSocket.
func (c *conn) handshake() error {
	c.mu.Lock()
	if c.phase.closing {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.nc.SetDeadline(time.Now().Add(c.s.opts.ConnectTimeout))
	c.mu.Unlock()
	h, ok := c.nc.(interface{ Handshake() error })
	if !ok {
		return nil
	}
	if err := h.Handshake(); err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	return nil
}

var errHandshake = errors.New("handshake")

// remote names the other end: a unix socket has no name.
func (c *conn) remote() string {
	if a := c.nc.RemoteAddr().String(); a != "" && a != "@" {
		return a
	}
	return c.nc.LocalAddr().String()
}

// login authenticates the client, or returns the reason code of the refusal. It is called after the
// handshake, which has verified the client's certificate, if there is one. size is the packet's share of
// the unfinished memory until the login is over.
func (c *conn) login(p *wire.Connect, size int) (wire.Code, error) {
	l := auth.Login{
		ClientID: p.ClientID, Username: p.Username, Named: p.HasUsername, Password: p.Password,
		CN: c.commonName(), Anonymous: c.anonymous, Remote: c.nc.RemoteAddr(),
	}
	err := c.in.Pause() // checking a password takes time, and may have to wait for others
	defer c.in.Resume()
	if err == nil {
		err = c.in.Reserve(size)
	}
	if err != nil {
		return wire.QuotaExceeded, err
	}
	defer c.in.Release(size)
	ctx, cancel := context.WithTimeout(context.Background(), c.s.opts.ConnectTimeout)
	defer cancel()
	grant, err := c.s.opts.Auth.Login(ctx, l)
	code := wire.Success
	switch {
	case err == nil && p.Will != nil && !isSys(p.Will.Topic) && !grant.MayWrite(p.Will.Topic):
		code, err = wire.NotAuthorized, errors.New("its will may not be published to "+p.Will.Topic)
	case err == nil:
		c.peer.grant = grant
		return code, nil
	case errors.Is(err, auth.ErrBadPassword):
		code = wire.BadUserNameOrPassword
	case errors.Is(err, auth.ErrAnonymous):
		code = wire.NotAuthorized
	case errors.Is(err, auth.ErrThrottled):
		code = wire.ConnectionRateExceeded
	default:
		code = wire.ServerBusy
	}
	c.s.counts.loginsRefused.Add(1)
	c.logger().Warn("login refused", "client", p.ClientID, "user", p.Username, "reason", err)
	return code, err
}

// user returns the name whose share of the limits the client counts in: the user's, or that of the certificate;
// empty for all other clients together.
func (c *conn) user() string {
	if name := c.peer.grant.User(); name != "" {
		return name
	}
	return c.commonName()
}

// commonName returns the common name of the client's verified certificate, or nothing.
func (c *conn) commonName() string {
	if s := c.secured(); len(s.VerifiedChains) > 0 {
		return s.PeerCertificates[0].Subject.CommonName
	}
	return ""
}

// secured returns the state of the connection's TLS; the zero value without TLS.
func (c *conn) secured() tls.ConnectionState {
	if t, ok := c.nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return t.ConnectionState()
	}
	return tls.ConnectionState{}
}

// revoked returns an error if the client's certificate has been revoked since its handshake.
func (c *conn) revoked() error {
	if c.place == nil || c.place.Revoked == nil {
		return nil
	}
	return c.place.Revoked(c.secured())
}

// noteRevoked counts and logs a connection that a revoked certificate ends.
func (c *conn) noteRevoked(err error) {
	var r *listen.RevokedError
	if errors.As(err, &r) {
		c.s.counts.revoked.Add(1)
		c.logger().Warn("connection refused: the client's certificate is revoked", "serial", r.Serial, "subject", r.Subject, "crl", r.CRL)
	}
}

// mayPublish reports whether the client may publish to topic. It logs the first denied publish.
func (c *conn) mayPublish(topic string) bool {
	if c.peer.grant.MayWrite(topic) {
		return true
	}
	if !c.loggedDenied {
		c.loggedDenied = true
		c.logger().Warn("publish denied; further ones of this connection are only counted", "topic", topic)
	}
	return false
}

// mayReceive reports whether a message may be delivered to the client. It counts a denied one.
func (c *conn) mayReceive(topic string) bool {
	if c.peer.grant.MayRead(topic) {
		return true
	}
	c.s.counts.dropped.unread.Add(1)
	return false
}

// Reauthorize disconnects users who were deleted or have a new password, and clients whose certificate is revoked.
// Call it after a change of Options.Auth or of the CRL that Listener.Revoked uses.
func (s *Server) Reauthorize() {
	var gone []*conn
	revoked := map[*conn]error{}
	s.mu.Lock()
	for _, x := range s.sessions.byID {
		c := x.conn.Load()
		if c == nil {
			continue
		}
		err := c.revoked()
		if err != nil {
			revoked[c] = err
		}
		if err != nil || c.peer.grant.Revoked() {
			gone = append(gone, c)
		}
	}
	s.mu.Unlock()
	for _, c := range gone {
		c.noteRevoked(revoked[c])
		c.kick(wire.NotAuthorized)
	}
}
