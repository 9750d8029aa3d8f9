package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
	"holdfast/gateway/config"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

// reload makes a site apply other sections, after the first ones that planSite writes.
func (s *site) reload(head, text string) ([]string, error) {
	file := filepath.Join(s.dir, "reload.yaml")
	if err := os.WriteFile(file, []byte(head+text), 0o600); err != nil {
		return nil, err
	}
	cfg, err := config.Load([]string{file}, config.Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers()})
	if err != nil {
		return nil, err
	}
	return s.agent.Reload(cfg)
}

// far is an upstream: another broker in this process.
type far struct {
	*server.Server
	addr string

	mu   sync.Mutex
	seen map[string]map[int]int // by topic: how often each number came
}

func newFar(t *testing.T) *far {
	fs, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f := &far{seen: map[string]map[int]int{}}
	if f.Server, err = server.New(server.Options{
		Journal: j, Anonymous: true, ConnectRate: -1, ConnectRatePerAddr: -1,
		Listeners: []server.Listener{{Network: "tcp", Address: "127.0.0.1:0"}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Subscribe("#", f.arrived); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	f.addr = f.Addrs()[0].String()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		j.Close()
	})
	return f
}

// arrived takes what has a number: a reading, or a number alone.
func (f *far) arrived(m *broker.Message) {
	var reading struct{ Seq int }
	topic := m.Topic
	if json.Unmarshal(m.Payload, &reading) != nil {
		reading.Seq, _ = strconv.Atoi(string(m.Payload))
	} else {
		topic, _, _ = strings.Cut(topic, "/sensors/")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[topic] == nil {
		f.seen[topic] = map[int]int{}
	}
	f.seen[topic][reading.Seq]++
}

// missing counts what has not arrived of 1 to last, and what came twice.
func (f *far) missing(topic string, last int) (missing, twice int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 1; i <= last; i++ {
		switch f.seen[topic][i] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	return missing, twice
}

// eventually asks again for up to a minute, as long as the gateway answers pings.
func (s *site) eventually(ok func() bool) bool {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // however fast round trips are, and slow the disk
		if ok() {
			return true
		}
		s.ping()
	}
	return ok()
}

// ping makes a round trip, and forgets what is said meanwhile.
func (s *site) ping() {
	s.t.Helper()
	s.client.Send(&wire.Ping{Type: wire.PINGREQ})
	for {
		p, err := s.client.Next()
		if err != nil {
			s.t.Fatalf("a client that has nothing to do with it was disconnected: %v", err)
		}
		if _, ok := p.(*wire.Ping); ok {
			return
		}
	}
}

// driven is every level that the machine has driven a line to.
func (s *site) driven(line int) (high []bool) {
	for _, e := range s.pi.GPIO(line).History() {
		if e.Driven {
			high = append(high, e.High)
		}
	}
	return high
}

// readings is the number of the last one.
func (s *site) readings() int {
	s.agent.made.readings.mu.Lock()
	defer s.agent.made.readings.mu.Unlock()
	return int(s.agent.made.readings.seq)
}

// TestReloadUnderLoad changes everything that can be changed while messages come, 60 times or
// HOLDFAST_RELOADS, every second time with a file that cannot be used.
func TestReloadUnderLoad(t *testing.T) {
	reloads := 60
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_RELOADS")); err == nil {
		reloads = n
	}
	up := newFar(t)
	s := planSite(t, "")
	first, free := brokertest.FreeAddress(t), brokertest.FreeAddress(t)
	head := strings.ReplaceAll(s.config, "127.0.0.1:0", first)
	head, _, _ = strings.Cut(head, "broker:")
	bridge := func(name, more string) string {
		return fmt.Sprintf("  - {name: %s, client_id: %[1]s, upstream: [\"mqtt://%s\"], %s}\n", name, up.addr, more)
	}
	listener := func(addresses ...string) string {
		text := "broker:\n  listeners:\n"
		for _, a := range addresses {
			text += fmt.Sprintf("    - {url: \"mqtt://%s\", anonymous: true}\n", a)
		}
		return text
	}
	steady := bridge("steady", `out: [{filter: load, prefix: steady/}, {filter: "sensors/#", prefix: steady/}]`)
	goods := []string{
		listener(first) + "bridges:\n" + steady + bridge("other", `out: [{filter: load, prefix: other/}]`) + `sensors:
  - {name: air, driver: bme280, bus: simulated, every: 20ms}
  - {name: door, driver: gpio-input, bus: simulated, line: 4, every: 20ms}
outputs:
  - {name: lamp, driver: gpio-output, bus: simulated, line: 1, active_low: true, safe: off}
  - {name: fan, driver: gpio-output, bus: simulated, line: 2, active_low: true, safe: off}
`,
		listener(free, first) + "  acl: [{topic: \"#\", access: readwrite}]\nbridges:\n" + bridge("more", `out: [{filter: rare}]`) + steady +
			bridge("other", `window: 7, out: [{filter: "load/#", prefix: other/}]`) + `sensors:
  - {name: tank, driver: ads1115, bus: simulated, every: 20ms}
  - {name: air, driver: bme280, bus: simulated, every: 20ms}
  - {name: window, driver: gpio-input, bus: simulated, line: 4, every: 20ms}
outputs:
  - {name: fan, driver: gpio-output, bus: simulated, line: 2, active_low: true, safe: on}
  - {name: lamp, driver: gpio-output, bus: simulated, line: 1, active_low: true, safe: off}
  - {name: pump, driver: gpio-output, bus: simulated, line: 3, active_low: true, safe: off, link: more}
`,
	}
	bads := map[string]string{
		goods[0] + "sensers: []\n":                                                                           "unknown key",
		strings.Replace(goods[1], "driver: bme280", "driver: bme281", 1):                                     "unknown driver",
		strings.Replace(goods[1], "    - {url", "    - {url", 1) + "\t: {":                                   "not YAML",
		strings.Replace(goods[1], "broker:", "broker:\n  sys_interval: 7s", 1):                               "broker.sys_interval",
		strings.Replace(goods[1], "mqtt://"+free+"\"", "mqtts://"+free+"\", cert: nowhere, key: nowhere", 1): "nowhere: no such file",
		strings.Replace(goods[1], "  acl:", "  acl_file: nowhere\n  acl:", 1):                                "nowhere",
	}
	texts := []string{}
	for text := range bads {
		texts = append(texts, text)
	}
	slices.Sort(texts)

	s.config = head + goods[0]
	s.start()
	s.command("lamp", "on")
	s.result("lamp")
	sent := 0
	publish := func() { // eight at a time
		const burst = 8
		for range burst {
			sent++
			s.id %= 65535 // no packet has identifier 0
			s.publish(wire.Publish{Topic: "load", QoS: 1, Payload: []byte(strconv.Itoa(sent))})
		}
		for acks := 0; acks < burst; {
			p, err := s.client.Next()
			if err != nil {
				t.Fatalf("a client that has nothing to do with it was disconnected: %v", err)
			}
			if a, ok := p.(*wire.Ack); ok && a.Type == wire.PUBACK {
				if acks++; a.Code >= 0x80 {
					t.Fatalf("PUBACK %v", a.Code)
				}
			}
		}
	}
	under := func(text string) (changes []string, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			changes, err = s.reload(head, text)
		}()
		for {
			publish()
			select {
			case <-done:
				return changes, err
			default:
			}
		}
	}
	settled := func() bool {
		st := s.agent.Status()
		return !slices.ContainsFunc(s.agent.made.storage.Readers(), func(r journal.ReaderInfo) bool { return strings.HasPrefix(r.Name, "bridge/") && r.Depth > 20 }) &&
			len(st.Bridges) == 2 && st.Bridges[0].Connected && st.Bridges[1].Connected
	}
	usage := func() (goroutines, descriptors int) {
		runtime.GC()
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(entries)
	}
	for _, text := range []string{goods[1], goods[0]} { // everything has been opened once
		if _, err := under(text); err != nil {
			t.Fatal(err)
		}
	}
	if !s.eventually(settled) {
		t.Fatalf("not settled: %+v", s.agent.Status().Bridges)
	}
	goroutines, descriptors := usage()
	begun := time.Now()
	good := 0
	for i := range reloads {
		if i%2 == 1 {
			text := texts[i/2%len(texts)]
			if _, err := under(text); err == nil || !strings.Contains(err.Error(), bads[text]) {
				t.Fatalf("got %v, want an error with %q", err, bads[text])
			}
			continue
		}
		good++
		changes, err := under(goods[good%2])
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(changes, "; "); strings.Contains(text, "air") || strings.Contains(text, "lamp") || strings.Contains(text, "steady") || !strings.Contains(text, "bridge other: changed") {
			t.Fatalf("changes %s", text)
		}
	}
	took := time.Since(begun)
	if good%2 == 1 {
		if _, err := under(goods[0]); err != nil {
			t.Fatal(err)
		}
	}
	if !s.eventually(settled) {
		t.Fatalf("not settled: %+v", s.agent.Status().Bridges)
	}
	now, open := 0, 0
	if !s.eventually(func() bool { now, open = usage(); return now <= goroutines && open <= descriptors }) {
		t.Errorf("%d goroutines and %d descriptors, were %d and %d", now, open, goroutines, descriptors)
	}
	for _, st := range s.agent.Status().Bridges {
		if st.Name == "steady" && st.Reconnects > 0 {
			t.Errorf("a bridge that did not change has connected again: %+v", st)
		}
	}
	if got := s.driven(1); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("a relay that did not change was driven %v, want high and then low", got)
	}
	s.agent.StopSensors()
	publish() // which does not wait for a commit to be shared, as readings do
	var lostSteady, lostOther, lostReadings, twice, readings int
	if !s.eventually(func() bool {
		readings = s.readings()
		var a, b, c int
		lostSteady, a = up.missing("steady/load", sent)
		lostOther, b = up.missing("other/load", sent)
		lostReadings, c = up.missing("steady", readings)
		twice = a + b + c
		return lostSteady+lostOther+lostReadings == 0
	}) {
		t.Errorf("lost: %d and %d messages, %d readings", lostSteady, lostOther, lostReadings)
	}
	t.Logf("%d reloads in %v, every second one refused: %d messages over 2 bridges and %d readings arrived, %d twice, lost %d; goroutines %d, then %d; descriptors %d, then %d",
		reloads, took.Round(time.Millisecond), sent, readings, twice, lostSteady+lostOther+lostReadings, goroutines, now, descriptors, open)
}
