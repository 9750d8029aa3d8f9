package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"holdfast/broker/listen"
)

// Proxy is the HTTP proxy to use (CONNECT, RFC 9110 section 9.3.6). The zero value means the proxy of
// the environment: HTTPS_PROXY, for hosts that NO_PROXY does not name, and never for this machine
// itself.
type Proxy struct {
	URL                string // http://HOST:PORT or https://HOST:PORT; "none" for none, not even from the environment
	Username, Password string // empty for none; those of a URL in the environment are in the URL
	CA                 string // PEM file of authorities to trust for https, beside those of the system
}

// NoProxy as Proxy.URL connects to the broker directly.
const NoProxy = "none"

const wantProxy = "want http://HOST:PORT, https://HOST:PORT or none"

// Check returns what is wrong with the URL, or nil.
func (p *Proxy) Check() error {
	if p.URL == "" || p.URL == NoProxy {
		return nil
	}
	u, err := url.Parse(p.URL)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Path != "" && u.Path != "/", u.RawQuery != "":
		return errors.New(wantProxy)
	case u.User != nil:
		return errors.New(wantProxy + ", with username and password apart")
	}
	return nil
}

// Through returns the URL of the proxy for a broker, without its password; empty without a proxy.
func (d *Dialer) Through(u *url.URL) string {
	proxy, err := d.opts.Proxy.to(u)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Redacted()
}

// to returns the proxy for a broker, or nil.
func (p *Proxy) to(u *url.URL) (*url.URL, error) {
	switch p.URL {
	case NoProxy:
		return nil, nil
	case "":
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: u.Host}})
		if err != nil {
			return nil, errors.New("the environment variable HTTPS_PROXY is no URL: " + wantProxy) // the error would repeat a password
		}
		if proxy != nil && proxy.Scheme != "http" && proxy.Scheme != "https" {
			return nil, fmt.Errorf("the environment variable HTTPS_PROXY has a proxy of kind %s: %s", proxy.Scheme, wantProxy)
		}
		return proxy, nil
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	proxy, err := url.Parse(p.URL)
	if err == nil && p.Username != "" {
		proxy.User = url.UserPassword(p.Username, p.Password)
	}
	return proxy, err
}

// maxAnswer is the most bytes that a proxy's answer may have.
const maxAnswer = 64 << 10

// tunnel asks the proxy to connect to address. date is the proxy's clock, or empty.
func (d *Dialer) tunnel(ctx context.Context, proxy *url.URL, address string, trace *Trace) (_ net.Conn, date string, err error) {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	nc, err := plain(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port), trace)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			nc.Close()
		}
	}()
	raw := nc
	interrupted := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	if proxy.Scheme == "https" {
		config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: proxy.Hostname(), Time: d.now}
		if d.opts.Proxy.CA != "" {
			pool, err := x509.SystemCertPool()
			if err != nil {
				pool = nil
			}
			if config.RootCAs, err = listen.ReadAuthorities(d.opts.Proxy.CA, pool); err != nil {
				return nil, "", err
			}
		}
		t := tls.Client(nc, config)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, "", d.explain(err, proxy.Hostname(), nil)
		}
		nc = t
	}
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {"holdfast"}}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := r.Write(nc); err != nil {
		return nil, "", err
	}
	in := bufio.NewReader(io.LimitReader(nc, maxAnswer))
	answer, err := http.ReadResponse(in, r)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, "", errors.New("closed without an answer: is it an HTTP proxy?")
	case err != nil:
		return nil, "", err
	case answer.StatusCode == http.StatusProxyAuthRequired && proxy.User == nil:
		return nil, "", errors.New("it wants a name and a password: give username and password of the proxy")
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return nil, "", errors.New("it does not accept this name and password")
	case answer.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("it does not connect to %s: %s: its rules have to allow this host and port", address, answer.Status)
	case in.Buffered() > 0:
		return nil, "", errors.New("more than an answer came: is it an HTTP proxy?")
	case !interrupted():
		return nil, "", ctx.Err()
	}
	return nc, answer.Header.Get("Date"), nil
}
