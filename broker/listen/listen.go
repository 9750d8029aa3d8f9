// Package listen opens the listeners that MQTT clients connect to: TCP and unix sockets, with TLS and
// WebSocket on top.
//
// Accepting a connection never waits for the client: the TLS handshake and the WebSocket upgrade run in
// the connection's Handshake, under the deadline that its owner has set. Replacing certificates does
// not affect open connections.
//
// It does not speak MQTT, does not authenticate clients, and does not limit their number.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultMode is the mode of a unix socket: its owner and group may connect.
const DefaultMode fs.FileMode = 0o660

// MaxSocketPath is the longest path of a unix socket, in bytes (unix(7)).
const MaxSocketPath = 107

// Options configure one listener.
type Options struct {
	Network   string      // "tcp" or "unix"
	Address   string      // "host:port", or the path of a socket
	Mode      fs.FileMode // of a unix socket; 0 means DefaultMode
	TLS       *TLS        // nil for none
	WebSocket *WebSocket  // nil for none
}

// Handshaker is a connection with handshakes (TLS, WebSocket) before the first byte of MQTT. Without
// a call of Handshake the first Read does them.
type Handshaker interface {
	net.Conn
	Handshake() error // needs a deadline
}

// Open listens. It replaces a stale socket, left without a listener by a crash; any other file at the
// path is an error.
func (o Options) Open(ctx context.Context) (net.Listener, error) {
	if o.TLS != nil && !o.TLS.Loaded() {
		if err := o.TLS.Reload(); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	var l net.Listener
	var err error
	if o.Network == "unix" {
		l, err = Unix(ctx, o.Address, o.Mode)
	} else {
		l, err = lc.Listen(ctx, Network(o.Network, o.Address), o.Address)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: another broker may be running, or choose another address in broker.listeners", err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%w: ports below 1024 and other users' directories need rights that this user has not; choose another address in broker.listeners", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%w: this device has no such address (yet): `ip addr` shows those it has; without a host in broker.listeners it listens on all of them", err)
	case err != nil:
		return nil, fmt.Errorf("%w: see broker.listeners", err)
	case o.TLS == nil && o.WebSocket == nil:
		return l, nil
	}
	return &listener{l, o}, nil
}

// Network returns the network for package net to listen on an address. Under "tcp" package net reads 0.0.0.0 as every address
// there is, IPv6 too; a user who writes 0.0.0.0 means IPv4, so Network returns tcp4. "[::]" and no host stay both.
func Network(network, address string) string {
	host, _, err := net.SplitHostPort(address)
	if ip, bad := netip.ParseAddr(host); network == "tcp" && err == nil && bad == nil && ip.Unmap() == netip.IPv4Unspecified() {
		return "tcp4"
	}
	return network
}

type listener struct {
	net.Listener
	opts Options
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.opts.Wrap(nc), nil
}

// Wrap puts TLS and WebSocket on a connection, which is a Handshaker if there is either.
func (o Options) Wrap(nc net.Conn) net.Conn {
	if o.TLS != nil {
		nc = tls.Server(nc, o.TLS.config)
	}
	if o.WebSocket != nil {
		nc = &upgrade{Conn: nc, opts: o.WebSocket, tls: o.TLS}
	}
	return nc
}

// Unix listens on a unix socket with that mode, 0 for DefaultMode. It replaces a stale socket; one with a
// listener is EADDRINUSE, and any other file is an error.
func Unix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if mode == 0 {
		mode = DefaultMode
	}
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("%s: %d bytes, the path of a socket has at most %d", path, len(path), MaxSocketPath)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// A socket takes the mode that its descriptor has as it is bound, less the umask: until chmod
	// no other user may connect, whatever the umask is.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: make the directory %s first", err, filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes a socket that has no listener.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there already and is not a socket: it is left alone; choose another path", path)
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		nc.Close()
		return fmt.Errorf("%s: %w", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
