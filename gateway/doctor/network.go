package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/broker/diagnose"
	"holdfast/broker/listen"
	"holdfast/gateway/config"
)

// ports: can the listeners be opened, or who has them?
func (e *examination) ports(context.Context) {
	type listener struct{ network, address, url string }
	var all []listener
	for _, l := range e.Config.Broker.Listeners {
		all = append(all, listener{l.Network, l.Address, l.URL})
	}
	if e.Config.Web.On() {
		all = append(all, listener{"tcp", e.Config.Web.Address, e.Config.Web.URL})
	}
	if len(all) == 0 {
		e.ok("none are configured")
	}
	for _, l := range all {
		if l.network != "tcp" {
			if dir := path.Dir(l.address); !e.exists(dir) {
				e.add(Fail, "the service makes /run/holdfast; make other directories first", "%s: there is no directory %s", l.url, dir)
			} else {
				e.ok("%s", l.url)
			}
			continue
		}
		err := e.m.Listen(l.network, l.address)
		switch {
		case err == nil:
			e.ok("%s is free", l.url)
		case errors.Is(err, syscall.EADDRINUSE):
			switch name, pid := e.holder(l.address); name {
			case "holdfast":
				e.ok("%s is the running gateway's (process %s)", l.url, pid)
			case "":
				e.add(Fail, "sudo ss -ltnp shows whose it is: end it, or listen on another port", "%s is taken, by a process that this user may not see", l.url)
			default:
				e.add(Fail, fmt.Sprintf("sudo systemctl disable --now %s, or listen on another port", name), "%s is taken by %s (process %s)", l.url, name, pid)
			}
		case errors.Is(err, syscall.EACCES):
			e.add(Fail, "a port above 1023, or AmbientCapabilities=CAP_NET_BIND_SERVICE in sudo systemctl edit holdfast", "%s: only root may listen below port 1024", l.url)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			e.add(Fail, "ip addr shows this device's addresses; without a host it listens on all of them", "%s: this device has no such address", l.url)
		default:
			e.add(Fail, "correct the address: host and port of this device", "%s: %v", l.url, err)
		}
	}
}

// holder finds the process that listens on a port: by the inode of its socket (proc(5), /proc/net/tcp).
func (e *examination) holder(address string) (name, pid string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", ""
	}
	var inodes []string
	for _, table := range []string{"proc/net/tcp", "proc/net/tcp6"} {
		for _, line := range strings.Split(e.read(table), "\n") {
			f := strings.Fields(line)
			const listening = "0A"
			if len(f) < 10 || f[3] != listening {
				continue
			}
			_, hexPort, _ := strings.Cut(f[1], ":")
			b, err := hex.DecodeString(hexPort)
			if err == nil && len(b) == 2 && strconv.Itoa(int(binary.BigEndian.Uint16(b))) == port {
				inodes = append(inodes, "socket:["+f[9]+"]")
			}
		}
	}
	fds, _ := fs.Glob(e.m.Root, "proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := fs.ReadLink(e.m.Root, fd); err == nil && slices.Contains(inodes, to) {
			dir := path.Dir(path.Dir(fd))
			return e.read(dir + "/comm"), path.Base(dir)
		}
	}
	return "", ""
}

// soon is when a certificate is about to end.
const soon = 30 * 24 * time.Hour

// certificates checks those that this device presents.
func (e *examination) certificates(context.Context) {
	e.revocations()
	type pair struct{ of, cert, key string }
	var all []pair
	for _, l := range e.Config.Broker.Listeners {
		if l.TLS() {
			all = append(all, pair{l.URL, l.Cert, l.Key})
		}
	}
	if w := e.Config.Web; w.On() && w.TLS() {
		all = append(all, pair{w.URL, w.Cert, w.Key})
	}
	if len(all) == 0 {
		e.ok("none are configured")
	}
	for _, p := range all {
		c, err := tls.LoadX509KeyPair(p.cert, p.key)
		if err != nil {
			e.add(Fail, "openssl x509 -in CERT -noout -pubkey and openssl pkey -in KEY -pubout have to print the same; both files have to be readable by the service", "%s: %s with %s: %v", p.of, p.cert, p.key, err)
			continue
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			e.add(Fail, "openssl x509 -in "+p.cert+" -noout -text", "%s: %s: %v", p.of, p.cert, err)
			continue
		}
		const renew = "renew it; a running gateway takes the new file within ten seconds"
		end := leaf.NotAfter.UTC().Format("2006-01-02")
		switch left := leaf.NotAfter.Sub(e.m.Now()); {
		case left <= 0:
			e.add(Fail, renew, "%s: %s was valid until %s", p.of, p.cert, end)
		case e.m.Now().Before(leaf.NotBefore):
			e.add(Fail, "look at the clock first", "%s: %s is valid from %s on", p.of, p.cert, leaf.NotBefore.UTC().Format("2006-01-02"))
		case left < soon:
			e.add(Warn, renew, "%s: %s is valid until %s, for %d days", p.of, p.cert, end, int(left/(24*time.Hour)))
		default:
			e.ok("%s: %s is valid until %s", p.of, p.cert, end)
		}
	}
}

// revocations checks the CRLs of listeners.
func (e *examination) revocations() {
	for _, l := range e.Config.Broker.Listeners {
		if !l.TLS() || l.CRL == "" {
			continue
		}
		t, err := listen.NewTLS(listen.TLSOptions{Cert: l.Cert, Key: l.Key, ClientCA: l.CA, CRL: l.CRL})
		switch stale := t.CheckCRL(e.m.Now()); {
		case err != nil && strings.HasPrefix(err.Error(), "crl "):
			e.add(Fail, "a running gateway goes on with the list that it had, but would not open the listener again", "%s: %v", l.URL, err)
		case err == nil && stale != nil:
			e.add(Warn, "put a new list in its place; a running gateway takes it within ten seconds", "%s: %v", l.URL, stale)
		case err == nil:
			e.ok("%s: %s is up to date", l.URL, l.CRL)
		}
	}
}

// addresses is how many there are of upstreams, at least one.
func (e *examination) addresses() time.Duration {
	n := 0
	for _, b := range e.Config.Bridges {
		n += len(b.Upstream)
	}
	return time.Duration(max(1, n))
}

// bridges reports the problems that a running gateway has with its upstreams.
func (e *examination) bridges(ctx context.Context) {
	if len(e.Config.Bridges) == 0 {
		return
	}
	s, err := e.m.Status(ctx, e.Config)
	if err != nil {
		e.ok("no running gateway answers: what it would say of its bridges is not known")
		return
	}
	for _, b := range s.Bridges {
		for _, p := range b.Problems {
			remedy := "holdfast status shows it for as long as it lasts"
			if i := strings.LastIndex(p, "; "); i >= 0 {
				p, remedy = p[:i], p[i+2:]
			}
			e.add(Fail, e.hide(remedy), "bridge %s: %s", b.Name, e.hide(p))
		}
		switch {
		case b.Connected && len(b.Problems) == 0:
			e.ok("bridge %s is connected", b.Name)
		case !b.Connected && b.LastError != "":
			e.add(Warn, "the steps of upstream below say more", "bridge %s is not connected: %s", b.Name, e.hide(b.LastError))
		case !b.Connected:
			e.add(Warn, "the steps of upstream below say more", "bridge %s is not connected", b.Name)
		}
	}
}

// hide returns a text without the secrets of the configuration: a broker or a proxy may have repeated them.
func (e *examination) hide(text string) string {
	var hide []string
	for _, s := range secretsOf(e.Config) {
		hide = append(hide, s, "********")
	}
	return strings.NewReplacer(hide...).Replace(text)
}

// upstream tries the way to each bridge's upstreams, step by step.
func (e *examination) upstream(ctx context.Context) {
	if len(e.Config.Bridges) == 0 {
		e.ok("no bridge is configured: readings stay here, and are not kept")
	}
	for _, b := range e.Config.Bridges {
		circles := false
		for _, u := range b.Upstream {
			if host, _, err := net.SplitHostPort(u.Address); err == nil && e.own(u.Address, host) {
				circles = true
				e.add(Fail, "give the bridge the address of another broker", "bridge %s: %s is this gateway's own listener: everything would come back", b.Name, u.URL)
			}
		}
		if circles {
			continue
		}
		e.way(ctx, b)
	}
}

// way adds a finding for each step that was tried.
func (e *examination) way(ctx context.Context, b config.Bridge) {
	test := "holdfast bridge test " + b.Name
	at, well, asked := "", true, false
	err := e.m.Try(ctx, e.Config, b.Name, func(url string) { at = url }, func(s diagnose.Step) {
		well = well && s.Outcome != diagnose.Failed
		asked = asked || s.Name == "connect" && s.Outcome != diagnose.Skipped
		level := map[diagnose.Outcome]Level{diagnose.OK: OK, diagnose.Warning: Warn, diagnose.Failed: Fail}[s.Outcome]
		switch {
		case level == "", s.Name == "clock" && (level == OK || strings.HasPrefix(s.Answer, "offset unknown")): // the clock has a check of its own
			return
		case level != OK && s.Remedy == "":
			s.Remedy = test + " shows it again"
		}
		e.add(level, e.hide(s.Remedy), "bridge %s: %s: %s: %s", b.Name, at, s.Name, e.hide(s.Answer))
	})
	switch {
	case err != nil:
		e.add(Fail, test+" shows it again", "bridge %s: %s", b.Name, e.hide(err.Error()))
	case well && !asked:
		e.add(OK, test+" does; it takes the place of a running gateway for a moment", "bridge %s: no login was tried: the service takes the device's own identifier only", b.Name)
	}
}

// own reports whether an upstream is one of our listeners.
func (e *examination) own(address, host string) bool {
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return false
	}
	_, port, _ := net.SplitHostPort(address)
	for _, l := range e.Config.Broker.Listeners {
		if _, p, err := net.SplitHostPort(l.Address); err == nil && p == port && p != "0" {
			return true
		}
	}
	return false
}
