package listen

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// The errors of Hosts.Check.
var (
	ErrHost   = errors.New("the host name of the request is not one of this device")
	ErrOrigin = errors.New("the request comes from a web page of another host")
)

// Hosts are the names under which browsers may reach a server. They prevent DNS rebinding: a web page whose
// name resolves to this device's address acts as if it came from here, but the request has its
// name (RFC 9110, 7.2), and no page can change that.
//
// Always accepted are addresses, which no page can give a name to, localhost (RFC 6761, 6.3) and the machine's
// own name with and without .local; Names are accepted too.
type Hosts struct {
	Names    []string // without a port; "*" for any
	Loopback bool     // accept only localhost and loopback addresses, and no names
	Origins  []string // origins of web pages of other hosts that may connect; "*" for any
	TLS      *TLS     // the names of its certificate are accepted too; nil for none
}

// Check returns nil, or ErrHost or ErrOrigin with the value of the request. Programs send no Origin, and need none.
func (h Hosts) Check(r *http.Request) error {
	host := hostname(r.Host)
	if !h.knows(host) {
		return fmt.Errorf("%w: %.100q", ErrHost, host)
	}
	origin := r.Header.Get("Origin")
	if origin == "" || slices.ContainsFunc(h.Origins, func(o string) bool { return o == "*" || strings.EqualFold(o, origin) }) {
		return nil
	}
	page, err := url.Parse(origin)
	if err != nil || page.Hostname() == "" || hostname(page.Host) != host {
		return fmt.Errorf("%w: %.100q", ErrOrigin, origin)
	}
	return nil
}

// hostname is the host of "host:port" or "host" as names are compared: lower case, without a last dot.
func hostname(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

func (h Hosts) knows(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return !h.Loopback || ip.Unmap().IsLoopback()
	}
	if host == "localhost" {
		return true
	}
	if h.Loopback || host == "" {
		return false
	}
	if slices.ContainsFunc(h.Names, func(n string) bool { return n == "*" || hostname(n) == host }) {
		return true
	}
	if own, err := os.Hostname(); err == nil { // now: it may be set while the gateway runs
		own = hostname(own)
		short, _, _ := strings.Cut(own, ".")
		if own != "" && (host == own || host == short || host == short+".local") {
			return true
		}
	}
	return h.TLS != nil && h.TLS.names(host)
}

// names reports whether the certificate is valid for a host. A wildcard certificate is.
func (t *TLS) names(host string) bool {
	config := t.now().config
	return config != nil && config.Certificates[0].Leaf.VerifyHostname(host) == nil
}
