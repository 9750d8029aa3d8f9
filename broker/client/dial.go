package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"holdfast/broker/listen"
)

var ports = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

const schemes = "want mqtt://, mqtts://, ws://, wss:// or unix:///PATH"

// ParseURL checks a broker's address and fills in the port.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New(schemes) // the error of url.Parse would repeat a password
	case u.User != nil:
		return nil, errors.New("no name and password in a URL: others can see it")
	case u.Scheme == "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return nil, fmt.Errorf("%q: want unix:///PATH, with three slashes", s)
		}
		return u, nil
	case ports[u.Scheme] == "":
		return nil, fmt.Errorf("%q: %s", s, schemes)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q: there is no host", s)
	case u.Port() == "":
		u.Host = net.JoinHostPort(u.Hostname(), ports[u.Scheme])
	}
	return u, nil
}

// dial opens the connection below MQTT.
func dial(ctx context.Context, opts Options) (net.Conn, error) {
	u := opts.URL
	network, address := "tcp", u.Host
	if u.Scheme == "unix" {
		network, address = "unix", u.Path
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "mqtts" || u.Scheme == "wss" {
		config := opts.TLS.Clone()
		if config == nil {
			config = &tls.Config{}
		}
		config.ServerName = u.Hostname()
		t := tls.Client(nc, config)
		if err := t.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, explain(err)
		}
		nc = t
	}
	if strings.HasPrefix(u.Scheme, "ws") {
		return listen.DialWebSocket(ctx, nc, u.String())
	}
	return nc, nil
}

// explain adds the remedy to an error of TLS.
func explain(err error) error {
	var header tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &header):
		return fmt.Errorf("%w: does this port speak TLS?", err)
	case errors.Is(err, io.EOF):
		return errors.New("closed by the broker during the TLS handshake: does this port speak TLS?")
	case errors.As(err, &certificate):
		return fmt.Errorf("%w: --ca names the authority to trust, --insecure trusts anybody", err)
	}
	return err
}
