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

// certificates that this device shows to others.
func (e *examination) certificates(context.Context) {
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

// upstream: does anybody answer where the bridges connect to?
func (e *examination) upstream(ctx context.Context) {
	if len(e.Config.Bridges) == 0 {
		e.ok("no bridge is configured: readings stay here, and are not kept")
	}
	for _, b := range e.Config.Bridges {
		for _, u := range b.Upstream {
			dialed, cancel := context.WithTimeout(ctx, patience/3)
			err := e.m.Dial(dialed, u.Address)
			cancel()
			var dns *net.DNSError
			switch {
			case err == nil:
				e.ok("bridge %s: %s takes connections", b.Name, u.URL)
			case errors.As(err, &dns):
				e.add(Fail, "correct the name; resolvectl query NAME shows whether names are found at all", "bridge %s: %s: the name is not found: %v", b.Name, u.URL, dns)
			case errors.Is(err, syscall.ECONNREFUSED):
				e.add(Fail, "is the broker running, and is it this port?", "bridge %s: %s: the host answers, and nothing listens there", b.Name, u.URL)
			case errors.Is(err, context.DeadlineExceeded):
				e.add(Fail, "ping the host; look at firewalls on the way", "bridge %s: %s: no answer within %v", b.Name, u.URL, patience/3)
			default:
				e.add(Fail, "ip route shows the way out, ping whether it works", "bridge %s: %s: %v", b.Name, u.URL, err)
			}
			if host, _, err := net.SplitHostPort(u.Address); err == nil && e.own(u.Address, host) {
				e.add(Fail, "give the bridge the address of another broker", "bridge %s: %s is this gateway's own listener: everything would come back", b.Name, u.URL)
			}
		}
	}
}

// own says whether an upstream is one of our listeners.
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
