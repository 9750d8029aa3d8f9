package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

const (
	window     = 20 // of the bridge
	publishers = 4  // each with one message in flight
	patience   = 2 * time.Minute
)

// binary is the program under test, built once.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "holdfast-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// TestNothingIsLost is the promise from end to end, with real processes: sensors and clients publish
// through the gateway to a Mosquitto that is killed and comes back, while the gateway itself is killed
// twice, or HOLDFAST_CRASH_KILLS times.
func TestNothingIsLost(t *testing.T) {
	kills := 2
	if v, err := strconv.Atoi(os.Getenv("HOLDFAST_CRASH_KILLS")); err == nil {
		kills = v
	}
	t.Run("publishers of 3.1.1", func(t *testing.T) { testNothingIsLost(t, kills, dial311) })
	t.Run("publishers of 5", func(t *testing.T) { testNothingIsLost(t, kills, dial5) })
}

func testNothingIsLost(t *testing.T, kills int, dial func(addr, id string) (publisher, error)) {
	upstream := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	link := brokertest.NewLink(t, upstream.Addr())
	seen := newArrivals()
	watch(t, upstream.Addr(), seen)
	link.Join()

	g := newProcess(t, link.Addr())
	g.start(g.base, g.sensors)
	load := startTraffic(g.addr, dial)

	load.waitForMore(t, 300)
	seen.waitFor(t, "the first readings", func() bool { return seen.readings() > 50 })

	upstream.Kill()
	link.Cut() // until a client subscribes again
	load.waitForMore(t, 10*window)
	for range kills {
		g.kill()
		g.start(g.base, g.sensors)
		load.waitForMore(t, 10*window)
	}

	upstream.Start()
	watch(t, upstream.Addr(), seen)
	link.Join()
	load.waitForMore(t, 300)
	acknowledged := load.stop()
	g.terminate()
	lastReading := g.lastReading()

	g.start(g.base) // without sensors: what was stored drains
	seen.waitFor(t, "everything acknowledged", func() bool {
		for topic, n := range acknowledged {
			if len(seen.byTopic["up/"+topic]) < n {
				return false
			}
		}
		return seen.readings() >= lastReading
	})
	g.terminate()

	seen.mu.Lock()
	defer seen.mu.Unlock()
	total := 0
	for topic, n := range acknowledged {
		total += n
		for i := range n {
			if seen.byTopic["up/"+topic][i] == 0 {
				t.Errorf("%s: message %d was acknowledged and never arrived", topic, i)
			}
		}
	}
	for seq := 1; seq <= lastReading; seq++ {
		if seen.seqs[seq] == 0 {
			t.Errorf("reading %d was stored and never arrived", seq)
		}
	}
	for _, d := range seen.disorder {
		t.Errorf("out of order: %s", d)
	}
	// In flight to the upstream when it was killed, and in flight from each publisher at each kill.
	if most := window + kills*publishers; seen.duplicates > most {
		t.Errorf("%d duplicates, want at most %d", seen.duplicates, most)
	}
	t.Logf("%d acknowledged messages and %d stored readings arrived, %d duplicates", total, lastReading, seen.duplicates)
	if depth := g.depth(); depth != 0 {
		t.Errorf("%d messages are left in the journal", depth)
	}
}

// process is a running holdfast and its files.
type process struct {
	t             *testing.T
	dir, addr     string
	base, sensors string
	options       []string // of the command line
	user          uint32   // that it runs as; 0 for the test's own
	cmd           *exec.Cmd
	log           *bytes.Buffer
}

func newProcess(t *testing.T, upstream string) *process {
	g := &process{t: t, dir: t.TempDir(), addr: brokertest.FreeAddress(t), log: new(bytes.Buffer)}
	g.writeBase(upstream)
	g.sensors = g.write("sensors.yaml", `sensors:
  - {name: air, driver: bme280, bus: simulated, every: 50ms}
  - {name: tank, driver: ads1115, bus: simulated, every: 100ms}
  - {name: board, driver: cpu, bus: simulated, every: 200ms}
`)
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			t.Logf("gateway:\n%s", g.log)
		}
	})
	return g
}

// writeBase writes what all gateways of these tests have.
func (g *process) writeBase(upstream string) {
	g.base = g.write("base.yaml", fmt.Sprintf(`device:
  id: e2e
data_dir: %s
web: {url: off}
broker:
  listeners:
    - url: mqtt://%s
journal:
  max_size: 64MiB
  keep_free: 0B
  commit_every: 200ms
bridges:
  - name: up
    upstream: ["mqtt://%s"]
    window: %d
    out:
      - {filter: "#", prefix: "up/"}
`, filepath.Join(g.dir, "data"), g.addr, upstream, window))
}

func (g *process) write(name, text string) string {
	file := filepath.Join(g.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return file
}

// start returns when the process listens.
func (g *process) start(configs ...string) {
	g.t.Helper()
	args := append([]string{"run"}, g.options...)
	for _, c := range configs {
		args = append(args, "-c", c)
	}
	g.cmd = exec.Command(program, args...)
	g.cmd.Stderr = g.log
	if g.user != 0 {
		g.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: g.user, Gid: g.user}}
	}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	try := time.NewTicker(2 * time.Millisecond)
	defer try.Stop()
	for range int(patience / (2 * time.Millisecond)) {
		if c, err := net.Dial("tcp", g.addr); err == nil {
			c.Close()
			return
		}
		<-try.C
	}
	g.t.Fatal("holdfast run does not listen")
}

// kill is what a power cut is to the process.
func (g *process) kill() {
	if g.cmd == nil {
		return
	}
	g.cmd.Process.Kill()
	g.cmd.Wait()
	g.cmd = nil
}

func (g *process) terminate() {
	g.t.Helper()
	g.cmd.Process.Signal(syscall.SIGTERM)
	if err := g.cmd.Wait(); err != nil {
		g.t.Errorf("holdfast run: %v", err)
	}
	g.cmd = nil
}

// inspect opens the journal of a gateway that does not run.
func (g *process) inspect(f func(j *journal.Journal)) {
	g.t.Helper()
	fs, err := journal.NewDirFS(filepath.Join(g.dir, "data", "journal"))
	if err != nil {
		g.t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 64 << 20})
	if err != nil {
		g.t.Fatal(err)
	}
	f(j)
	if err := j.Close(); err != nil {
		g.t.Fatal(err)
	}
}

// lastReading is the number of the newest reading that is stored.
func (g *process) lastReading() (seq int) {
	g.inspect(func(j *journal.Journal) {
		j.Range("gateway/seq", func(_ string, value []byte) bool {
			v, _ := binary.Uvarint(value)
			seq = int(v)
			return false
		})
	})
	return seq
}

func (g *process) depth() (n uint64) {
	g.inspect(func(j *journal.Journal) {
		for _, r := range j.Readers() {
			n += r.Depth
		}
	})
	return n
}

// publisher publishes at QoS 1 and returns when it is acknowledged.
type publisher interface {
	publish(topic, payload string) error
	close()
}

type publisher311 struct{ mqtt.Client }

func dial311(addr, id string) (publisher, error) {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("mqtt://" + addr).SetClientID(id).
		SetAutoReconnect(false).SetConnectTimeout(time.Second))
	t := c.Connect()
	t.Wait()
	return publisher311{c}, t.Error()
}

func (p publisher311) publish(topic, payload string) error {
	t := p.Publish(topic, 1, false, payload)
	if !t.WaitTimeout(patience) {
		return errors.New("no answer")
	}
	return t.Error()
}

func (p publisher311) close() { p.Disconnect(0) }

type publisher5 struct{ *paho.Client }

func dial5(addr, id string) (publisher, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil, err
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: patience})
	_, err = c.Connect(context.Background(), &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 30})
	return publisher5{c}, err
}

func (p publisher5) publish(topic, payload string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // Publish does not notice that the connection has ended
		select {
		case <-p.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := p.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(payload)})
	return err
}

func (p publisher5) close() { p.Disconnect(&paho.Disconnect{}) }

// traffic is a number of publishers that publish 0, 1, 2 ... each to a topic of its own, and each again
// and again until it is acknowledged.
type traffic struct {
	mu     sync.Mutex
	more   sync.Cond
	acked  map[string]int // by topic: how many from 0 on
	total  int
	ctx    context.Context
	cancel func()
	work   sync.WaitGroup
}

func startTraffic(addr string, dial func(addr, id string) (publisher, error)) *traffic {
	l := &traffic{acked: map[string]int{}}
	l.more.L = &l.mu
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for i := range publishers {
		topic := fmt.Sprint("pub/", i)
		l.work.Go(func() { l.publish(addr, topic, dial) })
	}
	return l
}

func (l *traffic) publish(addr, topic string, dial func(addr, id string) (publisher, error)) {
	var p publisher
	pause := time.NewTicker(10 * time.Millisecond) // of a client, between messages and attempts
	defer pause.Stop()
	for n := 0; l.ctx.Err() == nil; <-pause.C {
		if p == nil {
			var err error
			if p, err = dial(addr, strings.ReplaceAll(topic, "/", "-")); err != nil {
				p = nil
				continue
			}
		}
		if err := p.publish(topic, fmt.Sprint(n)); err != nil {
			p.close()
			p = nil
			continue
		}
		n++
		l.mu.Lock()
		l.acked[topic] = n
		l.total++
		l.more.Broadcast()
		l.mu.Unlock()
	}
	if p != nil {
		p.close()
	}
}

// waitForMore waits until n more messages are acknowledged.
func (l *traffic) waitForMore(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	want := l.total + n
	await(t, &l.more, fmt.Sprintf("%d acknowledgements", n), func() bool { return l.total >= want })
}

// stop returns how many messages of each topic were acknowledged.
func (l *traffic) stop() map[string]int {
	l.cancel()
	l.work.Wait()
	return l.acked
}

// await waits for a condition, with its lock held, and fails the test if it does not come.
func await(t *testing.T, c *sync.Cond, what string, ok func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		c.L.Lock()
		late = true
		c.L.Unlock()
		c.Broadcast()
	})
	defer timer.Stop()
	for !ok() {
		if late {
			t.Fatalf("waited in vain for %s", what)
		}
		c.Wait()
	}
}

// arrivals is what the upstream's subscriber got.
type arrivals struct {
	mu         sync.Mutex
	more       sync.Cond
	byTopic    map[string]map[int]int // how often each number came
	last       map[string]int
	seqs       map[int]int // of readings
	duplicates int
	disorder   []string
}

func newArrivals() *arrivals {
	a := &arrivals{byTopic: map[string]map[int]int{}, last: map[string]int{}, seqs: map[int]int{}}
	a.more.L = &a.mu
	return a
}

func (a *arrivals) add(topic string, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.more.Broadcast()
	var n int
	switch {
	case strings.HasPrefix(topic, "up/pub/"):
		fmt.Sscan(string(payload), &n)
	case strings.HasPrefix(topic, "up/sensors/"):
		var reading struct{ Seq int }
		if err := json.Unmarshal(payload, &reading); err != nil || reading.Seq == 0 {
			a.disorder = append(a.disorder, fmt.Sprintf("%s: no reading: %q", topic, payload))
			return
		}
		n = reading.Seq
		a.seqs[n]++
	default:
		return // status
	}
	if a.byTopic[topic] == nil {
		a.byTopic[topic] = map[int]int{}
		a.last[topic] = -1
	}
	a.byTopic[topic][n]++
	if a.byTopic[topic][n] > 1 {
		a.duplicates++
		return
	}
	if n < a.last[topic] {
		a.disorder = append(a.disorder, fmt.Sprintf("%s: %d after %d", topic, n, a.last[topic]))
	}
	a.last[topic] = n
}

// readings is called with mu held, or by waitFor.
func (a *arrivals) readings() int { return len(a.seqs) }

func (a *arrivals) waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	await(t, &a.more, what, ok)
}

// watch subscribes to everything of a broker. It returns when the subscription is there, and goes on
// until the broker ends. QoS 0 is enough: Mosquitto writes to its subscribers before it acknowledges.
func watch(t *testing.T, addr string, seen *arrivals) {
	c := brokertest.Dial(t, addr, wire.V311)
	c.Connect(wire.Connect{ClientID: "watch", CleanStart: true})
	c.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "up/#"}}})
	brokertest.Receive[*wire.Suback](c)
	go func() {
		for {
			p, err := c.Next()
			if err != nil {
				return
			}
			if p, ok := p.(*wire.Publish); ok {
				seen.add(p.Topic, p.Payload)
			}
		}
	}()
}
