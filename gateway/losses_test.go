package gateway

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/uplinks"
	"holdfast/gateway/verify"
)

// upstreamAt is a gateway as upstream, whose clients may do what rules say, and what comes there.
func upstreamAt(t *testing.T, address, rules string) (s *site, came chan *broker.Message) {
	up := planSite(t, "")
	up.config = strings.Replace(up.config, "broker: {listeners: [{url: \"mqtt://127.0.0.1:0\"",
		fmt.Sprintf("broker: {acl: [%s], listeners: [{anonymous: true, url: \"mqtt://%s\"", rules, address), 1)
	came = make(chan *broker.Message, 100)
	up.before = func(a *Agent) {
		if _, err := a.Subscribe("#", func(m *broker.Message) {
			if !strings.HasSuffix(m.Topic, "status/site") { // of either of them: TestOnlineAndOffline
				came <- m
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	up.start()
	return up, came
}

// TestRefusedMessages: what an upstream refuses for good is kept with the reason, announced once, counted,
// and holds nothing up; sent again by a person it arrives when it is allowed.
func TestRefusedMessages(t *testing.T) {
	address := brokertest.FreeAddress(t)
	up, came := upstreamAt(t, address, `{topic: "north/open/#", access: readwrite}, {topic: "holdfast/#", access: readwrite}`)
	s := planSite(t, fmt.Sprintf("bridges: [{name: cloud, protocol: 5, upstream: [\"mqtt://%s\"], out: [{filter: '#', prefix: north/}]}]\n", address))
	s.opts.seams.announceEvery = 10 * time.Millisecond
	s.start()
	s.put("open/1", 1)
	s.put("secret/1", 1)
	s.put("open/2", 1)
	reading := &broker.Message{Topic: "sensors/site/air/t", QoS: 1, Payload: []byte(`{"value":1,"unit":"C","time":null,"seq":77}`)}
	if err := s.agent.made.server.Publish(reading, server.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	var topics []string
	told := map[uint64]verify.Loss{}
	for len(topics) < 2 || len(told) < 1 || !slices.ContainsFunc(slices.Collect(maps.Values(told)), func(l verify.Loss) bool { return l.Readings != nil }) {
		switch m := <-came; {
		case m.Topic == "holdfast/site/losses":
			var l verify.Loss
			if err := json.Unmarshal(m.Payload, &l); err != nil {
				t.Fatal(err)
			}
			told[l.ID] = l // a range that has grown replaces its earlier announcement
		default:
			topics = append(topics, m.Topic)
		}
	}
	if !slices.Equal(topics, []string{"north/open/1", "north/open/2"}) {
		t.Errorf("arrived: %q", topics)
	}
	var count uint64
	for _, l := range told {
		if l.Bridge != "cloud" || l.Reason != journal.ReasonRefused || l.Readings != nil && *l.Readings != (verify.Numbers{First: 77, Last: 77, Count: 1}) {
			t.Errorf("told %+v", l)
		}
		count += l.Count
	}
	if count != 2 {
		t.Errorf("%d announced as lost, want 2: %+v", count, told)
	}
	if lost := s.lost(); len(lost) != 1 || lost["cloud "+journal.ReasonRefused] != 2 {
		t.Errorf("lost: %+v", lost)
	}
	s.stop()
	up.stop()

	// A person looks, and sends one of them again.
	dir := filepath.Join(s.dir, "journal")
	v, err := journal.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	var letters []string
	if err := v.Records(journal.Select{}, func(r *journal.Record) error {
		if r.Kind == "message" && slices.ContainsFunc(r.Owed, func(o journal.RecordOwed) bool { return o.Reader == uplinks.DeadReader && o.Waits }) {
			l, err := uplinks.ReadDeadLetter(r.Message)
			if err != nil {
				return err
			}
			letters = append(letters, fmt.Sprintf("%s %s %s %v", l.Bridge, l.Message.Topic, l.Reason, l.Seq > 0 && len(l.Message.Properties) == 0 && time.Since(l.Time) < time.Hour))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"cloud secret/1 upstream says: not authorized true", "cloud sensors/site/air/t upstream says: not authorized true"}
	if len(letters) != 2 || !strings.HasPrefix(letters[0], "cloud secret/1 upstream says: ") || !strings.HasPrefix(letters[1], "cloud sensors/site/air/t upstream says: ") || !strings.HasSuffix(letters[0], " true") {
		t.Errorf("dead letters: %q, want such as %q", letters, want)
	}
	fs, err := journal.NewDirFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if err := uplinks.SettleDeadLetters(j, func(_ uint64, l *uplinks.DeadLetter) uplinks.LetterChoice {
		return map[string]uplinks.LetterChoice{"secret/1": uplinks.SendLetter, "sensors/site/air/t": uplinks.DeleteLetter}[l.Message.Topic]
	}); err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	up, came = upstreamAt(t, address, `{topic: "#", access: readwrite}`)
	s.start()
	if m := <-came; m.Topic != "north/secret/1" || string(m.Payload) != "x" {
		t.Errorf("got %s, want what was sent again", m.Topic)
	}
	s.put("open/3", 1)
	if m := <-came; m.Topic != "north/open/3" { // and no loss once more
		t.Errorf("got %s %s", m.Topic, m.Payload)
	}
	for _, r := range s.agent.made.storage.Readers() {
		if r.Depth > 0 && r.Name == uplinks.DeadReader {
			t.Errorf("%+v", r)
		}
	}
	s.stop()
	up.stop()
}

// TestRefusedAnnouncements: an upstream that refuses announcements gets one, and not another for each refusal, as if
// that were a new loss.
func TestRefusedAnnouncements(t *testing.T) {
	address := brokertest.FreeAddress(t)
	up, came := upstreamAt(t, address, `{topic: "open/#", access: readwrite}`)
	s := planSite(t, fmt.Sprintf("bridges: [{name: cloud, protocol: 5, upstream: [\"mqtt://%s\"], out: [{filter: '#'}]}]\n", address))
	said := make(lines, 1000)
	s.opts.Log = slog.New(slog.NewTextHandler(said, nil))
	s.opts.seams.announceEvery = time.Millisecond
	s.start()
	s.put("secret/1", 1)
	for line := range said {
		if strings.Contains(line, "refuses to be told of losses") {
			break
		}
	}
	s.put("secret/2", 1)
	s.put("open/1", 1)
	for m := range came {
		if m.Topic == "open/1" {
			break
		}
	}
	s.stop()
	up.stop()
	if lost := s.lost(); len(lost) != 1 || lost["cloud "+journal.ReasonRefused] != 3 { // two, and the one announcement
		t.Errorf("lost: %+v", lost)
	}
	close(said)
	for line := range said {
		if strings.Contains(line, "refuses to be told of losses") {
			t.Errorf("said again: %s", line)
		}
	}
}

// lost is what bridges could not deliver, by bridge and reason.
func (s *site) lost() map[string]uint64 {
	sums := map[string]uint64{}
	for _, r := range s.agent.made.storage.Readers() {
		if rest, ok := strings.CutPrefix(r.Name, "bridge/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			for reason, n := range r.Lost {
				sums[name+" "+reason] += n
			}
		}
	}
	return sums
}

// lines is a log that a test reads.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestReadingNumber: only this device's readings have a number that counts.
func TestReadingNumber(t *testing.T) {
	number := readingNumber("pi")
	for _, c := range []struct {
		topic, payload string
		want           uint64
	}{
		{"sensors/pi/air/t", `{"value":1.5,"unit":"°C","time":"2026-11-22T10:00:00.123Z","seq":1234}`, 1234},
		{"sensors/other/air/t", `{"value":1.5,"unit":"°C","time":null,"seq":1234}`, 0},
		{"outputs/pi/fan", `{"value":1,"seq":7}`, 0},
		{"sensors/pi/air/t", `{"value":1.5,"seq":12x}`, 0},
		{"sensors/pi/air/t", `{"value":1.5,"seq":12`, 0},
		{"sensors/pi/air/t", `{"value":1.5,"seq":99999999999999999999}`, 0},
		{"sensors/pi/air/t", ``, 0},
	} {
		n, ok := number(&broker.Message{Topic: c.topic, Payload: []byte(c.payload)})
		if ok != (c.want > 0) || ok && n != c.want {
			t.Errorf("%s %s: got %d, %v, want %d", c.topic, c.payload, n, ok, c.want)
		}
	}
}

// TestQueuesOfABridge: rules of other priorities have readers of their own, which follow a bridge to its new
// name, and the backlog of a priority that no rule has any more is sent first.
func TestQueuesOfABridge(t *testing.T) {
	nobody := brokertest.FreeAddress(t)
	bridges := func(name, more, rules string) string {
		return fmt.Sprintf("bridges: [{name: %s, upstream: [\"mqtt://%s\"], %s out: [%s]}]\n", name, nobody, more, rules)
	}
	s := planSite(t, bridges("a", "", "{filter: x/alarm, priority: 3}, {filter: 'x/#'}"))
	s.start()
	is := func(want string) {
		t.Helper()
		if got := s.readers(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	s.put("x/alarm", 2)
	s.put("x/other", 3)
	is("bridge/a 3 waiting, priority 1; bridge/a/p3 2 waiting, priority 3")
	restart := func(bridges string) {
		t.Helper()
		s.stop()
		head, _, _ := strings.Cut(s.config, "bridges:")
		s.config = head + bridges
		s.start()
	}
	restart(bridges("b", "was: a, drain: live-first,", "{filter: x/alarm, priority: 3}, {filter: 'x/#'}"))
	is("bridge/b 3 waiting, priority 1; bridge/b/p3 2 waiting, priority 3")
	restart(bridges("b", "priority: 2,", "{filter: 'x/#'}"))
	is("bridge/b 3 waiting, priority 2; bridge/b/p3 2 waiting, priority 2")
	s.put("x/alarm", 1)
	is("bridge/b 4 waiting, priority 2; bridge/b/p3 2 waiting, priority 2")
	s.stop()

	// It is all sent: the former queue first.
	up := planSite(t, "")
	up.config = strings.Replace(up.config, "mqtt://127.0.0.1:0", "mqtt://"+nobody, 1)
	came := make(chan string, 100)
	up.before = func(a *Agent) {
		if _, err := a.Subscribe("x/#", func(m *broker.Message) { came <- m.Topic }); err != nil {
			t.Fatal(err)
		}
	}
	up.start()
	s.start()
	var got []string
	for range 6 {
		got = append(got, <-came)
	}
	if want := []string{"x/alarm", "x/alarm", "x/other", "x/other", "x/other", "x/alarm"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s.stop()
	s.start() // what was empty is gone
	is("bridge/b 0 waiting, priority 2")
	s.stop()
	up.stop()
}
