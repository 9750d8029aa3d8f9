package diagnose

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"holdfast/broker/dial"
)

// reach goes up to where MQTT begins. It returns nil if that fails.
func (r *run) reach(ctx context.Context) net.Conn {
	host := r.URL.Hostname()
	if proxy := r.Dialer.Through(r.URL); proxy != "" {
		r.tell("name", OK, host+": left to the proxy", "")
	} else if _, err := netip.ParseAddr(host); err == nil {
		r.tell("name", OK, host+": an address", "")
	} else if !r.resolve(ctx, host) {
		return nil
	}
	begun := time.Now()
	nc, err := r.Dialer.Dial(dial.WithTrace(ctx, &dial.Trace{
		Connected: func(a net.Addr) {
			r.connected = a
			r.tell("tcp", OK, fmt.Sprintf("%v, in %v", a, time.Since(begun).Round(time.Millisecond)), "")
		},
		Proxied: func(proxy, date string) {
			r.proxied = proxy
			r.dateIs(date)
			r.tell("proxy", OK, proxy+" has connected", "")
		},
		Secured: func(s dial.State) {
			r.secured = &s
			r.certificate(s)
		},
		Upgraded: func(date string) {
			r.upgraded = true
			r.dateIs(date)
			r.tell("websocket", OK, "upgraded", "")
		},
	}), r.URL)
	switch {
	case err == nil:
		return nc
	case r.connected == nil:
		r.fail("tcp", err, tcpRemedy(err))
	case r.applies("proxy") && r.proxied == "":
		r.fail("proxy", err, "the answer says what the proxy wants; `proxy` in the bridge has its URL, name and password")
	case r.applies("tls") && r.secured == nil:
		r.fail("tls", err, "the keys are those of `tls` in the bridge")
	default:
		r.fail("websocket", err, "the path in the URL has to be the one that the broker serves MQTT at, often /mqtt")
	}
	return nil
}

func (r *run) resolve(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	var dns *net.DNSError
	switch {
	case err == nil:
		r.tell("name", OK, host+": "+strings.Join(addresses, ", "), "")
		return true
	case errors.As(err, &dns) && dns.IsNotFound:
		r.fail("name", fmt.Errorf("%s: no such host", host), "correct the host in `upstream`; if it is right, the name server of this network does not know it")
	default:
		r.fail("name", err, "the name server does not answer: is the network up, and right in /etc/resolv.conf?")
	}
	return false
}

// certificate tells of the upstream's chain.
func (r *run) certificate(s dial.State) {
	const day = "2006-01-02"
	var chain []string
	for _, c := range s.Chain {
		chain = append(chain, fmt.Sprintf("%s until %s", dial.CertificateName(c), c.NotAfter.UTC().Format(day)))
	}
	answer := s.Version + ", " + strings.Join(chain, ", by ")
	if s.Protocol != "" {
		answer += ", ALPN " + s.Protocol
	}
	outcome, remedy := OK, ""
	now, _ := r.Clock()
	for _, e := range r.Dialer.Expiries() {
		left := e.NotAfter.Sub(now)
		if e.What == "client" {
			answer += fmt.Sprintf("; this side's %s until %s", e.Name, e.NotAfter.UTC().Format(day))
		}
		if left < dial.ExpiryWarning {
			outcome = Warning
			remedy = strings.TrimPrefix(remedy+fmt.Sprintf("; the %s's certificate ends in %v: have it renewed", e.What, left.Round(time.Hour)), "; ")
		}
	}
	r.tell("tls", outcome, answer, remedy)
}
