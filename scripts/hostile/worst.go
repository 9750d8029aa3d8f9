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

// stuck is a connection whose other end is never heard.
type stuck struct{ net.Conn }

func (s stuck) Read([]byte) (int, error) { select {} }

// handshakes begins TLS and WebSocket, and does not go on.
func (x *excess) handshakes() {
	for i := 0; !x.over(); i++ {
		at := []string{x.mqtts, x.wss, x.g.ws}[i%3]
		raw, err := net.DialTimeout("tcp", at, patience)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		x.keep(raw)
		raw.(*net.TCPConn).SetReadBuffer(4096)
		if i%3 < 2 {
			go tls.Client(stuck{raw}, &tls.Config{InsecureSkipVerify: true}).Handshake()
		} else {
			raw.Write([]byte("GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\n"))
			for j := range 15 {
				fmt.Fprintf(raw, "X-%d: %s\r\n", j, strings.Repeat("y", 1000))
			}
		}
		if i%400 == 399 {
			time.Sleep(4 * time.Second)
		}
	}
}

// halfConnects sends CONNECTs of the largest size but their end.
func (x *excess) halfConnects() {
	p := wire.Append(nil, wire.V5, &wire.Connect{Version: wire.V5, ClientID: "c", HasPassword: true, Password: make([]byte, 60_000), HasUsername: true})
	for i := 0; !x.over(); i++ {
		if c, err := x.dial(i); err == nil {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			c.Write(p[:len(p)-1])
		} else {
			time.Sleep(10 * time.Millisecond)
		}
		if i%200 == 199 {
			time.Sleep(2 * time.Second)
		}
	}
}

// halfPackets logs in and begins a publish of the largest size.
func (x *excess) halfPackets() {
	p := wire.Append(nil, wire.V5, &wire.Publish{Topic: "x", Payload: make([]byte, 1<<20-100)})
	for i := 0; !x.over(); i++ {
		if c := x.connect(i, login{user: user(i), version: wire.V5, clean: true}); c != nil {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			c.Write(p[:len(p)-1])
		} else {
			time.Sleep(10 * time.Millisecond)
		}
		if i%60 == 59 {
			time.Sleep(time.Second)
		}
	}
}

// publisher publishes to a topic as fast as it is acknowledged.
func (x *excess) publisher(topic string, sizes ...int) {
	for i := 0; !x.over(); i++ {
		c := x.connect(0, login{user: "mallory", version: wire.V5, clean: true})
		if c == nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for j := 0; !x.over(); j++ {
			p := &wire.Publish{Topic: topic, QoS: byte(j % 2), Payload: make([]byte, sizes[j%len(sizes)])}
			if p.QoS > 0 {
				p.ID = 1
			}
			if c.send(p) != nil {
				break
			}
			if p.QoS == 0 {
				continue
			}
			if _, err := c.next(patience); err != nil {
				break
			}
		}
		c.Close()
	}
}

// notReading opens as many subscribers as there may be, of every kind, who read nothing.
func (x *excess) notReading() {
	for range 2 {
		x.wait.Go(func() { x.publisher("not/read", 100, 1000, 20_000, 200_000, 1_000_000, 60_000) })
	}
	for i := 0; !x.over(); i++ {
		l := login{user: user(i), id: fmt.Sprint("deaf", i%2000), version: []wire.Version{wire.V5, wire.V311}[i%2], clean: i%3 > 0, expiry: uint32(i % 3 / 2 * 60)}
		if c := x.connect(i/2, l); c != nil {
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "not/read", QoS: byte(i % 3)}}})
		} else {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// notAnswering opens subscribers of QoS 1 and 2 who read and never answer.
func (x *excess) notAnswering() {
	x.wait.Go(func() { x.publisher("not/answered", 10_000, 300_000) })
	for i := range 60 {
		l := login{user: user(i), id: fmt.Sprint("mute", i), version: wire.V5, clean: i%2 == 0, expiry: uint32(i % 2 * 60), receive: 65535}
		if c := x.connect(0, l); c != nil {
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "not/answered", QoS: byte(1 + i/2%2)}}})
			x.wait.Go(func() { io.Copy(io.Discard, c) })
		}
	}
	x.rest()
}

// absentFlights opens sessions that receive as much as they may have without an answer, and then go.
func (x *excess) absentFlights() {
	const sessions, workers = 3000, 8
	each := func(f func(i int)) {
		var wait sync.WaitGroup
		for w := range workers {
			wait.Go(func() {
				for i := w; i < sessions && !x.over(); i += workers {
					f(i)
				}
			})
		}
		wait.Wait()
	}
	l := func(i int) login {
		return login{user: user(i), id: fmt.Sprint("gone", i), version: wire.V5, expiry: 3600, receive: 65535}
	}
	each(func(i int) {
		if c := x.connect(0, l(i)); c != nil {
			c.subscribe(byte(1+i%2), nil, "gone/t")
			c.Close()
		}
	})
	if p := x.connect(0, login{user: "mallory", version: wire.V5, clean: true}); p != nil {
		for i := range 200 {
			p.send(&wire.Publish{Topic: "gone/t", QoS: 2, ID: uint16(i + 1)})
			p.next(patience)
			p.send(&wire.Ack{Type: wire.PUBREL, ID: uint16(i + 1)})
			p.next(patience)
		}
		p.Close()
	}
	each(func(i int) {
		if c := x.connect(0, l(i)); c != nil {
			for range 100 {
				if _, err := c.next(time.Second); err != nil {
					break
				}
				x.n.Add(1)
			}
			c.Close()
		}
	})
	x.rest()
}

// withoutPubrel leaves as many publishes of QoS 2 open as there may be, in sessions of both kinds.
func (x *excess) withoutPubrel() {
	for i := 0; !x.over(); i++ {
		l := login{user: user(i), id: fmt.Sprint("open", i%600), version: wire.V311, clean: i%2 == 0}
		c := x.connect(0, l)
		if c == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var b []byte
		for id := range 990 {
			b = wire.Append(b, l.version, &wire.Publish{Topic: "o", QoS: 2, ID: uint16(id + 1)})
		}
		c.raw(b)
		if i%2 == 1 {
			for range 990 {
				if _, err := c.next(time.Second); err != nil {
					break
				}
			}
			c.Close()
		}
	}
}

// manySessions fills the table with identifiers of the largest size.
func (x *excess) manySessions() {
	for i := 0; !x.over(); i++ {
		id := fmt.Sprintf("%d-%s", i, strings.Repeat("i", 1010))
		if c := x.connect(0, login{user: user(i), id: id, version: wire.V5, expiry: 0xffffffff}); c != nil {
			c.send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: fmt.Sprint("s/", i), QoS: 1}}})
			c.Close()
		} else {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// manyFilters fills the tree with filters that share nothing.
func (x *excess) manyFilters() {
	for i := 0; !x.over(); i++ {
		c := x.connect(0, login{user: user(i), id: fmt.Sprint("deep", i), version: wire.V5, expiry: 3600})
		if c == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		for j := range 4 {
			p := &wire.Subscribe{ID: uint16(j + 1)}
			for k := range 50 {
				p.Subscriptions = append(p.Subscriptions, wire.Subscription{QoS: 1, Filter: fmt.Sprintf("f%d_%d_%d", i, j, k) + strings.Repeat("/a", 60)})
			}
			c.send(p)
			c.next(time.Second)
		}
		c.Close()
		if i > 60 {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// manyWills leaves wills behind, large and small.
func (x *excess) manyWills() {
	for i := 0; !x.over(); i++ {
		l := login{user: user(i), id: fmt.Sprint("will", i), version: wire.V5, clean: true, expiry: 3600,
			will: &wire.Will{Topic: "will/" + fmt.Sprint(i), Payload: make([]byte, []int{10, 60_000}[i%2]), QoS: 1, Delay: 3600}}
		if c := x.connect(0, l); c != nil {
			c.Close()
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// manyRetained fills the store: many of no size in long topics, and large ones.
func (x *excess) manyRetained() {
	c := x.connect(0, login{user: "eve", version: wire.V5, clean: true})
	if c == nil {
		return
	}
	x.wait.Go(func() { io.Copy(io.Discard, c) })
	for i := 0; !x.over(); i++ {
		p := &wire.Publish{Topic: fmt.Sprintf("r/%d/", i) + strings.Repeat("r/", 30), Retain: true, Payload: make([]byte, 100)}
		if i%2000 == 0 {
			p.Payload = make([]byte, 900_000)
		}
		if c.send(p) != nil {
			return
		}
		if i > 12_000 {
			time.Sleep(time.Millisecond)
		}
	}
}

// manyAliases opens many connections with as many topic aliases as there may be, both ways.
func (x *excess) manyAliases() {
	for i := 0; i < 300 && !x.over(); i++ {
		l := login{user: user(i), version: wire.V5, clean: true}
		c := x.connect(0, l)
		if c == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		x.wait.Go(func() { io.Copy(io.Discard, c) })
		for a := range 32 {
			if c.send(&wire.Publish{Topic: fmt.Sprintf("%d-%d-%s", i, a, strings.Repeat("l", 230)), TopicAlias: uint16(a + 1)}) != nil {
				break
			}
		}
	}
	x.rest()
}

// wrongLogins makes the gateway compute the costly hash.
func (x *excess) wrongLogins() {
	for w := range 20 {
		x.wait.Go(func() {
			for i := 0; !x.over(); i++ {
				if c := x.connect(w, login{user: fmt.Sprint("boss", []string{"", fmt.Sprint(i)}[i%2]), password: fmt.Sprint("wrong", i), id: fmt.Sprint("guess", w, "-", i), version: wire.V5, clean: true}); c != nil {
					c.Close()
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// dashboards opens as many connections as there may be, with streams and answers that are not read.
func (x *excess) dashboards() {
	requests := []string{"/api/events", "/api/events", "/metrics", "/api/history?hours=24", "/", "/api/config"}
	for i := 0; !x.over(); i++ {
		raw, err := net.DialTimeout("tcp", x.g.web, patience)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		x.keep(raw)
		raw.(*net.TCPConn).SetReadBuffer(4096)
		raw.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		switch i % 8 {
		case 6:
			fmt.Fprintf(raw, "GET / HTTP/1.1\r\nHost: %s\r\nX: %s", x.g.web, strings.Repeat("y", 15_000))
		case 7:
			fmt.Fprintf(raw, "POST /api/login HTTP/1.1\r\nHost: %s\r\nContent-Length: 16000\r\n\r\n{\"user\":\"%s", x.g.web, strings.Repeat("y", 15_000))
		default:
			for range 20 { // one after the other, in one connection
				fmt.Fprintf(raw, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", requests[i%8], x.g.web)
			}
		}
		if i > 64 {
			time.Sleep(20 * time.Millisecond)
		}
	}
}
