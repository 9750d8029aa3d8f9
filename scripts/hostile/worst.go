package main

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker/faultnet"
	"holdfast/broker/listen"
	"holdfast/broker/wire"
)

// worst is everything that costs memory, at its full size against the default limits: first each kind alone, against
// a gateway of its own, then all kinds at the same time against one.
func (t *trial) worst() error {
	kinds := costs
	if t.moves != "" {
		kinds = nil
		for _, name := range strings.Split(t.moves, ",") {
			i := slices.IndexFunc(costs, func(c cost) bool { return c.name == name })
			if i < 0 {
				return fmt.Errorf("no cost is named %q", name)
			}
			kinds = append(kinds, costs[i])
		}
	}
	failed := 0
	try := func(name string, kinds ...cost) error {
		idle, peak, problems, err := t.charge(kinds)
		if err != nil {
			return err
		}
		fmt.Printf("%-24s %4d MiB, %+d\n", name, peak>>20, (peak-idle)>>20)
		if peak > t.memory<<20 {
			problems = append(problems, fmt.Sprintf("resident memory was %d MiB, more than %d", peak>>20, t.memory))
		}
		for _, p := range problems {
			fmt.Printf("  %s\n", p)
		}
		if len(problems) > 0 {
			failed++
		}
		return nil
	}
	if t.runs > 1 {
		for _, c := range kinds {
			if err := try(c.name, c); err != nil {
				return err
			}
		}
	}
	if len(kinds) > 1 {
		if err := try("all at the same time", kinds...); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of the costs are too high", failed)
	}
	return nil
}

// cost is one kind of attack on memory, which keeps what it has until the others have theirs.
type cost struct {
	name  string
	do    func(x *excess)
	stays bool // what it takes needs no connection
}

var costs = []cost{
	{"handshakes", (*excess).handshakes, false},
	{"half-connects", (*excess).halfConnects, false},
	{"half-packets", (*excess).halfPackets, false},
	{"not-reading", (*excess).notReading, false},
	{"not-answering", (*excess).notAnswering, false},
	{"absent-flights", (*excess).absentFlights, true},
	{"without-pubrel", (*excess).withoutPubrel, true},
	{"sessions", (*excess).manySessions, true},
	{"filters", (*excess).manyFilters, true},
	{"wills", (*excess).manyWills, true},
	{"retained", (*excess).manyRetained, true},
	{"aliases", (*excess).manyAliases, false},
	{"logins", (*excess).wrongLogins, false},
	{"dashboard", (*excess).dashboards, false},
}

// excess is one gateway under such attacks.
type excess struct {
	g          *gateway
	mqtts, wss string
	begun      time.Time
	until      atomic.Pointer[time.Time] // when the attackers stop
	mu         sync.Mutex
	conns      []io.Closer
	wait       sync.WaitGroup
	n          atomic.Int64
}

const worstTime = 20 * time.Second

// charge returns the resident memory of a gateway before and at its most.
func (t *trial) charge(kinds []cost) (idle, peak int64, problems []string, err error) {
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		return 0, 0, nil, err
	}
	defer os.RemoveAll(dir)
	g, err := newGateway(t.program, dir, "site")
	if err != nil {
		return 0, 0, nil, err
	}
	defer g.kill()
	x := &excess{g: g}
	for _, a := range []*string{&x.mqtts, &x.wss} {
		if *a, err = faultnet.FreeAddress(); err != nil {
			return 0, 0, nil, err
		}
	}
	if err := x.configure(); err != nil {
		return 0, 0, nil, err
	}
	if _, err := g.start(time.Minute); err != nil {
		log, _ := os.ReadFile(g.logFile())
		return 0, 0, nil, fmt.Errorf("%w: %s", err, log)
	}
	time.Sleep(time.Second)
	if idle, err = g.proc.RSS(); err != nil {
		g.kill()
		return 0, 0, nil, err
	}
	x.begun = time.Now()
	x.last(x.begun.Add(worstTime))
	first := 0
	for _, c := range kinds {
		if c.stays {
			first++
			x.wait.Go(func() { c.do(x) })
		}
	}
	if first > 0 && first < len(kinds) {
		x.rest()
		x.last(time.Now().Add(worstTime))
	}
	for _, c := range kinds {
		if !c.stays {
			x.wait.Go(func() { c.do(x) })
		}
	}
	// An honest client has its answers meanwhile.
	slowest := time.Duration(0)
	for !x.over() {
		at := time.Now()
		c, err := open(g.mqtt, login{user: "writer", id: "honest", version: wire.V5, clean: true}, patience)
		if err == nil {
			if err = c.send(&wire.Publish{Topic: "honest/t", QoS: 1, ID: 1}); err == nil {
				_, err = c.next(patience)
			}
			c.close()
		}
		if err != nil && !x.full() {
			problems = append(problems, fmt.Sprintf("an honest client after %v: %v", time.Since(x.begun).Round(time.Millisecond), err))
		}
		slowest = max(slowest, time.Since(at))
		time.Sleep(200 * time.Millisecond)
	}
	if _, err := g.get("/readyz", patience); err != nil && !slices.ContainsFunc(kinds, func(c cost) bool { return c.name == "dashboard" }) {
		problems = append(problems, err.Error())
	}
	peak, err = g.proc.PeakRSS()
	if err != nil || !g.alive() {
		problems = append(problems, "the gateway has ended by itself: "+tail(g.logFile()))
	}
	if t.verbose {
		if m, err := g.metrics(patience); err == nil {
			var names []string
			for name, n := range m {
				if n > 0 && (strings.HasPrefix(name, "holdfast_limit_reached") || strings.HasPrefix(name, "go_mem") || strings.HasPrefix(name, "go_gorout") || strings.HasPrefix(name, "holdfast_clients")) {
					names = append(names, fmt.Sprintf("%s %g", name, n))
				}
			}
			slices.SortFunc(names, cmp.Compare)
			fmt.Printf("  slowest honest client %v\n  %s\n", slowest.Round(time.Millisecond), strings.Join(names, "\n  "))
		}
	}
	if t.keep != "" {
		b, _ := os.ReadFile(g.logFile())
		os.WriteFile(filepath.Join(t.keep, "log"), b, 0o600)
	}
	x.mu.Lock()
	for _, c := range x.conns {
		c.Close()
	}
	x.mu.Unlock()
	g.kill()
	x.wait.Wait()
	return idle, peak, problems, nil
}

// full reports whether the gateway has turned connections away because there were as many as may be.
func (x *excess) full() bool {
	text, _ := os.ReadFile(x.g.logFile())
	return strings.Contains(string(text), "limit=broker.limits.connections")
}

// configure sets the default limits, every kind of listener, and users who may do everything.
func (x *excess) configure() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(x.g.dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			return err
		}
	}
	text := fmt.Sprintf(`device: {id: site}
data_dir: %q
control: %q
web: {url: "http://%s"}
broker:
  listeners:
    - {url: "mqtt://%s"}
    - {url: "ws://%s/mqtt"}
    - {url: "mqtts://%s", cert: cert.pem, key: key.pem}
    - {url: "wss://%s/mqtt", cert: cert.pem, key: key.pem}
  anonymous: true
  acl:
    - {topic: "#", access: readwrite}
  users:
`, x.g.data(), filepath.Join(x.g.dir, "c.sock"), x.g.web, x.g.mqtt, x.g.ws, x.mqtts, x.wss)
	for _, u := range attackers {
		text += fmt.Sprintf("    - {name: %s, password_hash: %q}\n", u, cheapHash(u))
	}
	text += fmt.Sprintf("    - {name: writer, password_hash: %q}\n    - {name: boss, password_hash: %q}\n", cheapHash("writer"), costlyHash)
	text += "sensors:\n  - {name: machine, driver: system, every: 1s}\n"
	return os.WriteFile(x.g.config, []byte(text), 0o600)
}

// attackers are three users, so that no user's share of a limit saves memory.
var attackers = []string{"mallory", "eve", "trudy"}

func (x *excess) over() bool { return time.Now().After(*x.until.Load()) }

func (x *excess) last(t time.Time) { x.until.Store(&t) }

func (x *excess) keep(c io.Closer) {
	x.mu.Lock()
	x.conns = append(x.conns, c)
	x.mu.Unlock()
}

// rest waits until all is over.
func (x *excess) rest() { time.Sleep(time.Until(*x.until.Load())) }

// dial opens a connection of one of the four kinds, whose receive buffer is small.
func (x *excess) dial(i int) (*client, error) {
	raw, err := net.DialTimeout("tcp", []string{x.g.mqtt, x.mqtts, x.g.ws, x.wss}[i%4], patience)
	if err != nil {
		return nil, err
	}
	raw.(*net.TCPConn).SetReadBuffer(4096)
	raw.SetDeadline(time.Now().Add(patience))
	conn := raw
	if i%2 == 1 {
		conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	}
	if i%4 >= 2 {
		if conn, _, err = listen.DialWebSocket(x.g.life, conn, "ws://127.0.0.1/mqtt"); err != nil {
			raw.Close()
			return nil, err
		}
	}
	raw.SetDeadline(time.Time{})
	x.keep(raw)
	return &client{Conn: conn, r: wire.NewReader(conn, wire.MaxSize)}, nil
}

// connect logs in over one of the four kinds of listeners; nil if that fails.
func (x *excess) connect(kind int, l login) *client {
	c, err := x.dial(kind)
	if err != nil {
		return nil
	}
	c.version = l.version
	c.r.SetVersion(l.version)
	if err = c.send(l.packet()); err == nil {
		var p wire.Packet
		if p, err = c.next(patience); err == nil {
			if a, ok := p.(*wire.Connack); !ok || a.Code != 0 {
				err = fmt.Errorf("%+v", p)
			}
		}
	}
	if err != nil {
		c.Close()
		return nil
	}
	return c
}

func user(i int) string { return attackers[i%len(attackers)] }
