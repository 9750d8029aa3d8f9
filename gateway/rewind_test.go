package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/gateway/tap"
	"holdfast/gateway/verify"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// copied returns a copy of the data directory of a site that does not run.
func (s *site) copied() string {
	s.t.Helper()
	old := s.t.TempDir()
	if err := os.CopyFS(old, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	return old
}

// The ways in which a data directory goes back in time. Of those that leave nothing of today the gateway cannot know.
const (
	oldJournal = "journal copied back"
	oldAll     = "all copied back"
	zeroed     = "segments of zeros"
	nothing    = "journal removed"
)

// rewind replaces the data directory of a stopped site by an earlier copy.
func (s *site) rewind(old, way string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "journal")
	var err error
	switch way {
	case oldJournal:
		err = errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(filepath.Join(old, "journal"))))
	case oldAll:
		err = errors.Join(os.RemoveAll(s.dir), os.CopyFS(s.dir, os.DirFS(old)))
	case zeroed:
		files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
		for _, f := range files {
			info, e := os.Stat(f)
			err = errors.Join(err, e, os.WriteFile(f, make([]byte, info.Size()), 0o640))
		}
	case nothing:
		files, _ := filepath.Glob(filepath.Join(dir, "*.s*"))
		for _, f := range files {
			err = errors.Join(err, os.Remove(f))
		}
	default:
		s.t.Fatal(way)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// collector keeps what comes to an upverify.
type collector struct {
	mu       sync.Mutex
	came     []*broker.Message
	more     chan struct{}
	relevant func(topic string) bool
}

func collect(t *testing.T, subscribe func(string, func(*broker.Message)) (func(), error), relevant func(topic string) bool) *collector {
	c := &collector{more: make(chan struct{}, 1), relevant: relevant}
	if _, err := subscribe("#", c.take); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *collector) take(m *broker.Message) {
	if !c.relevant(m.Topic) {
		return
	}
	c.mu.Lock()
	c.came = append(c.came, m)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// until waits until enough has come, and returns it.
func (c *collector) until(t *testing.T, what string, enough func([]*broker.Message) bool) []*broker.Message {
	t.Helper()
	over := time.After(time.Minute)
	for {
		c.mu.Lock()
		came := c.came[:len(c.came):len(c.came)]
		c.mu.Unlock()
		if enough(came) {
			return came
		}
		select {
		case <-c.more:
		case <-over:
			var text []string
			for _, m := range came {
				text = append(text, m.Topic+" "+string(m.Payload))
			}
			t.Fatalf("waited in vain for %s; what came:\n%s", what, strings.Join(text, "\n"))
		}
	}
}

// TestNumbersOfARewoundJournal: what an upstream sees of a gateway whose data directory goes back in time. Where the
// gateway notices it, no number is given to a second reading or state, and the gateway announces once that an unknown
// number is lost, from where, and where the numbers go on. Where it cannot notice, verify-stream does.
func TestNumbersOfARewoundJournal(t *testing.T) {
	for _, way := range []string{oldJournal, zeroed, nothing, oldAll} {
		t.Run(way, func(t *testing.T) {
			up := newFar(t)
			came := collect(t, up.Subscribe, func(topic string) bool {
				return strings.HasPrefix(topic, "north/sensors/") || strings.HasSuffix(topic, "/losses")
			})
			s := planSite(t, fmt.Sprintf("bridges: [{name: cloud, protocol: 5, upstream: [\"mqtt://%s\"], out: [{filter: 'sensors/#', prefix: north/}]}]\n%s", up.addr, relays))
			s.config = strings.Replace(s.config, "keep_free: 0B", "keep_free: 0B, commit_every: 0s", 1)
			s.opts.seams.announceEvery = 10 * time.Millisecond
			errs := make(chan error, 1)
			s.opts.Taps = []tap.Options{{Name: "test", Take: func(e tap.Event) {
				if is, ok := e.(tap.Settled); ok {
					errs <- is.Err
				}
			}}}
			taken := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
			total := 0
			states := map[uint64]bool{} // numbers of the pump's
			twice := 0
			read := func(n int) {
				t.Helper()
				for range n {
					taken = taken.Add(time.Second)
					s.agent.made.readings.reading(sensors.Reading{Sensor: "air", Quantity: "temperature", Value: 1, Unit: "°C", Time: taken})
					if err := <-errs; err != nil {
						t.Fatal(err)
					}
				}
				total += n
				s.command("pump", "on")
				s.result("pump")
				s.command("pump", "off")
				s.result("pump")
				for _, v := range []float64{1, 0} {
					if seq := s.hear("outputs/site/pump", func(m message) bool { return m.Value != nil && *m.Value == v && m.By == outputs.ByCommand }).Seq; states[seq] {
						twice++
					} else {
						states[seq] = true
					}
				}
				came.until(t, fmt.Sprintf("%d readings", total), func(list []*broker.Message) bool {
					n := 0
					for _, m := range list {
						if strings.HasPrefix(m.Topic, "north/sensors/") {
							n++
						}
					}
					return n >= total
				})
			}
			s.start()
			read(5)
			s.stop()
			old := s.copied()
			s.start()
			read(5)
			s.stop()
			s.rewind(old, way)
			told := func(list []*broker.Message) (losses []verify.Loss) {
				for _, m := range list {
					if strings.HasSuffix(m.Topic, "/losses") {
						var l verify.Loss
						if err := json.Unmarshal(m.Payload, &l); err != nil {
							t.Fatal(err)
						}
						losses = append(losses, l)
					}
				}
				return losses
			}
			unknown := func(list []*broker.Message) (n int) {
				for _, l := range told(list) {
					if l.Reason == journal.ReasonUnknown {
						n++
					}
				}
				return n
			}
			want := 1
			if way == oldAll {
				want = 0
			}
			var list []*broker.Message
			for range 2 { // also at the start after that
				s.start()
				read(5)
				list = came.until(t, "an announcement", func(list []*broker.Message) bool { return unknown(list) >= want })
				s.stop()
			}
			check := verify.New(0, 0)
			for _, m := range list {
				check.Message(m.Topic, m.Payload)
			}
			d := check.Report().Devices[0]
			if way == oldAll {
				if d.Reused != 5 || d.Received != 15 || check.Report().Complete() {
					t.Errorf("got %+v, want 5 numbers that were given twice", d)
				}
				return
			}
			epoch := s.agent.made.storage.Interruption().Epoch
			if d.Received != 20 || d.Duplicates+d.Reused+d.Unaccounted+d.Missing != 0 || !check.Report().Complete() ||
				len(d.Restarts) != 1 || d.Restarts[0] != (verify.Range{First: 11, Last: epoch * verify.Series}) || d.Last != epoch*verify.Series+10 {
				t.Errorf("got %+v, want 10 readings, and 10 more after the numbers of %d series", d, epoch)
			}
			if twice > 0 {
				t.Errorf("%d numbers of states were given twice", twice)
			}
			seen := map[string]bool{}
			for _, l := range told(list) {
				key := fmt.Sprint(l.ID, l.First, l.Count)
				if seen[key] {
					t.Errorf("announced twice: %+v", l)
				}
				seen[key] = true
				if l.Reason == journal.ReasonUnknown && (l.Readings == nil || l.Readings.Last != epoch*verify.Series || l.Readings.First > 11) {
					t.Errorf("announced %+v, want where the readings go on", l)
				}
			}
		})
	}
}

// TestCommandsOfARewoundJournal: a journal that went back in time does not know which commands were carried out. None is
// carried out again, as far as that can be known, and new ones are.
func TestCommandsOfARewoundJournal(t *testing.T) {
	s := planSite(t, relays)
	s.start()
	s.stop()
	// A command that was acknowledged and not carried out when the copy was made.
	fs, err := journal.NewDirFS(filepath.Join(s.dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := journal.NewDirFS(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, Beside: beside, MaxSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := j.OpenReader("outputs")
	if err != nil {
		t.Fatal(err)
	}
	m := &broker.Message{Topic: "outputs/site/pump/set", Payload: []byte(`{"value":"on","id":"old"}`), QoS: 1}
	if err := errors.Join(j.AppendDurable(t.Context(), journal.Entry{Message: m, Owed: []journal.Owed{{Reader: reader, QoS: 1}}}), j.Close()); err != nil {
		t.Fatal(err)
	}
	old := s.copied()
	answers := make(chan string, 10)
	s.before = func(a *Agent) { // the answer may come before any client does
		if _, err := a.Subscribe("outputs/site/pump/result", func(m *broker.Message) { answers <- string(m.Payload) }); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(want string) {
		t.Helper()
		if a := <-answers; !strings.Contains(a, want) {
			t.Errorf("got %s, want %s", a, want)
		}
	}
	s.start()
	answered(`{"id":"old","result":"done"`)
	sent := time.Now().UTC().Format(time.RFC3339Nano)
	s.command("pump", `{"value":"on","id":"later","time":"`+sent+`"}`)
	answered(`{"id":"later","result":"done"`)
	s.stop()
	s.rewind(old, oldJournal)
	s.start()
	answered(`"result":"refused","reason":"it may have been carried out already: the journal has lost`)
	for start := range 2 { // also at the start after that
		if start > 0 {
			s.stop()
			s.start()
		}
		for _, again := range []string{
			`{"value":"on","id":"later","time":"` + sent + `"}`,
			`{"value":"on","id":"later"}`,
			`{"value":"on","id":"later","expires":"` + time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano) + `"}`,
		} {
			s.command("pump", again)
			answered(`"result":"refused","reason":"id \"later\": it may have been taken before: the journal has lost`)
		}
		for _, fresh := range []string{
			fmt.Sprintf(`{"value":"on","id":"new%d","time":"%s"}`, start, time.Now().UTC().Format(time.RFC3339Nano)),
			`on`,
		} {
			s.command("pump", fresh)
			answered(`"result":"done"`)
		}
	}
}
