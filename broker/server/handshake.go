package server

import (
	"errors"
	"fmt"
	"net"
	"time"
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
