package commands

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/wire"
	"holdfast/sensors/outputs"
)

// TestReadingsAreCommands: what sensors of this kind and of others publish moves an output; what means nothing to it is
// named, and not refused.
func TestReadingsAreCommands(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	c := outputs.Config{CommandExpiry: 30 * time.Second}
	for _, tt := range []struct {
		payload, text, id string
		unknown           []string
	}{
		{`{"value":1,"unit":"","time":"2026-11-29T11:59:59.000Z","seq":1234}`, "1", "1234", nil},
		{`{"value":0,"unit":"","time":"2026-11-29T11:59:59.000Z","seq":1235}`, "0", "1235", nil},
		{`{"value":"pressed","time":"2026-11-29T11:59:59.000Z","seq":1}`, "on", "1", nil},
		{`{"value":"released"}`, "off", "", nil},
		{`{"value":true,"seq":7,"id":"mine"}`, "on", "mine", nil},
		{`{"value":"OFF","seq":null,"time":null}`, "off", "", nil},
		{`{"value":"On","seq":"7"}`, "on", "7", nil},
		{`{"value":21.5,"unit":"°C"}`, "21.5", "", nil},
		{`{"value":1,"battery":90,"linkquality":3}`, "1", "", []string{`"battery"`, `"linkquality"`}},
		{`{"VALUE":1,"Unit":""}`, "1", "", nil},
		{`{"value":1,"since":"x","by":"command","why":"","waiting":{},"seq":3}`, "1", "3", nil}, // an output's state
		{"pressed", "on", "", nil},
		{" Released\n", "off", "", nil},
		{"0", "0", "", nil},
		{"open", "open", "", nil},
	} {
		cmd, err := parseCommand(&broker.Message{Payload: []byte(tt.payload)}, &c, freshness{now: now, clockSynced: true, ageKnown: true})
		if err != nil || cmd.text != tt.text || cmd.ID != tt.id || !slices.Equal(cmd.unknown, tt.unknown) {
			t.Errorf("%s: got %q, id %q, unknown %v, %v", tt.payload, cmd.text, cmd.ID, cmd.unknown, err)
		}
	}
	for payload, want := range map[string]string{
		`{"vlaue":1,"seq":2}`: `value: missing; unknown: "vlaue"`,
		`{"value":1,"seq":"` + strings.Repeat("9", maxName+1) + `"}`: "seq: 129 bytes, want at most 128",
	} {
		if _, err := parseCommand(&broker.Message{Payload: []byte(payload)}, &c, freshness{now: now, clockSynced: true, ageKnown: true}); err == nil || err.Error() != want {
			t.Errorf("%.60s: got %v, want %s", payload, err, want)
		}
	}
	many := `{"value":1`
	for i := range 100 {
		many += fmt.Sprintf(`,"key %d %s":1`, i, strings.Repeat("x", 20))
	}
	cmd, err := parseCommand(&broker.Message{Payload: []byte(many + "}")}, &c, freshness{now: now, clockSynced: true, ageKnown: true})
	if err != nil || len(cmd.unknown) != 8 {
		t.Errorf("of 100 unknown keys %d are named: %v", len(cmd.unknown), err)
	}
}

// TestNumbersOfReadings: a reading's number is its id, for its own time: two sensors may count alike.
func TestNumbersOfReadings(t *testing.T) {
	c := outputs.Config{CommandExpiry: time.Minute}
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	seen := map[string]string{}
	for _, payload := range []string{
		`{"value":1,"time":"2026-11-29T12:00:00.000Z","seq":1}`,
		`{"value":1,"time":"2026-11-29T12:00:00.001Z","seq":1}`,
		`{"value":1,"time":"2026-11-29T12:00:00.000Z","seq":2}`,
		`{"value":1,"seq":1}`,
		`{"value":1,"id":"1"}`,
	} {
		cmd, err := parseCommand(&broker.Message{Payload: []byte(payload)}, &c, freshness{now: now, clockSynced: true, ageKnown: true})
		if err != nil || cmd.once == "" || seen[cmd.once] != "" {
			t.Errorf("%s: remembered as %q, as %s: %v", payload, cmd.once, seen[cmd.once], err)
		}
		seen[cmd.once] = payload
	}
}

// TestOrderOfFollowedReadings: the number and the time of a reading have to be older to make it old.
func TestOrderOfFollowedReadings(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	var p place
	for i, step := range []struct {
		seq  string
		time time.Duration
		want error
	}{
		{"10", 0, nil},
		{"11", time.Second, nil},
		{"10", 0, errOvertaken},
		{"9", -time.Second, errOvertaken},
		{"12", -time.Hour, nil},              // its clock was set back
		{"11", time.Second, nil},             // and forward: by its time alone it is new
		{"1", 2 * time.Second, nil},          // its gateway has lost its memory
		{"2", 3 * time.Second, nil},          // and goes on
		{"1", 2 * time.Second, errOvertaken}, //
		{"", 0, nil},                         // of something that does not count
		{"4294967297", 4 * time.Second, nil}, // a new epoch
		{"3", 3 * time.Second, errOvertaken}, // and what was queued before it
		{"4294967297", 4 * time.Second, nil}, // the same again is refused by its id
		{"4294967298", 4 * time.Second, nil}, // two in a millisecond
		{"4294967297", 4 * time.Second, nil}, // by its number alone it is old
		{"4294967296", 3 * time.Second, errOvertaken},
	} {
		sent := at.Add(step.time)
		cmd := parsed{Command: outputs.Command{ID: step.seq}, sent: &sent}
		if err := p.pass(&cmd); err != step.want {
			t.Errorf("step %d, number %s at %v: got %v, want %v", i, step.seq, step.time, err, step.want)
		}
	}
}

// properties of a message that was queued on its way.
func properties(pairs ...string) []byte {
	var f wire.Forwarded
	for i := 0; i < len(pairs); i += 2 {
		f.User = append(f.User, wire.UserProperty{Name: pairs[i], Value: pairs[i+1]})
	}
	return f.Append(nil)
}

// TestFreshnessOnTheWay: the sender's time decides where there is one; what was queued on its way, and does not say how
// old it is, is not fresh unless it cannot be old.
func TestFreshnessOnTheWay(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	c := outputs.Config{CommandExpiry: 10 * time.Second}
	stamp := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339Nano) }
	at := func(d time.Duration) string { return `{"value":1,"time":"` + stamp(d) + `"}` }
	until := func(d time.Duration) string { return `{"value":1,"expires":"` + stamp(d) + `"}` }
	unknown, short, long := []string{"holdfast-queued", "unknown"}, []string{"holdfast-queued", "9s"}, []string{"holdfast-queued", "11s"}
	replayed := []string{"holdfast-replayed", "true"}
	taken := func(d time.Duration) []string { return append(slices.Clone(replayed), "holdfast-taken", stamp(d)) }
	for _, tt := range []struct {
		what       string
		payload    string
		properties []string
		expiry     uint32 // 0 for none
		retain     bool
		unsynced   bool
		refused    string // empty if it is carried out
	}{
		{what: "plain, as it comes", payload: "on"},
		{what: "queued for an unknown time", payload: "on", properties: unknown, refused: "queued on its way"},
		{what: "queued for less than it may be old", payload: "on", properties: short},
		{what: "queued for longer", payload: "on", properties: long, refused: "queued on its way for up to 11s"},
		{what: "queued twice", payload: "on", properties: slices.Concat(short, short), refused: "up to 18s"},
		{what: "queued, damaged", payload: "on", properties: []string{"holdfast-queued", "soon"}, refused: "queued on its way"},
		{what: "queued, with a time that is fresh", payload: at(-9 * time.Second), properties: unknown},
		{what: "queued, with a time that is not", payload: at(-11 * time.Second), properties: short, refused: "sent 11s ago"},
		{what: "queued, and not yet expired", payload: until(time.Second), properties: unknown},
		{what: "queued, and expired", payload: until(-time.Second), properties: unknown, refused: "expired 1s ago"},
		{what: "queued, with a message expiry interval", payload: "on", properties: unknown, expiry: 5},
		{what: "replayed after an unknown time", payload: "on", properties: replayed, refused: "queued on its way"},
		{what: "replayed, taken just now", payload: "on", properties: taken(-9 * time.Second)},
		{what: "replayed, taken long ago", payload: "on", properties: taken(-time.Minute), refused: "sent 1m0s ago"},
		{what: "replayed, taken long ago, measured now", payload: at(0), properties: taken(-time.Minute)},
		{what: "replayed, with a message expiry interval", payload: "on", properties: replayed, expiry: 5},
		{what: "replayed, taken just now by a right clock, here none", payload: "on", properties: taken(0), unsynced: true, refused: "queued on its way"},
		{what: "retained", payload: at(0), retain: true, refused: "retained"},
		{what: "time, no clock here", payload: at(0), unsynced: true},
		{what: "time before ours, no clock here", payload: at(-time.Hour), unsynced: true, refused: "too old: sent 1h0m0s ago"},
		{what: "time after ours, no clock here", payload: at(100 * time.Hour), unsynced: true},
		{what: "queued, time, no clock here", payload: at(100 * time.Hour), properties: unknown, unsynced: true, refused: "clock is not set"},
		{what: "expires, no clock here", payload: until(time.Hour), unsynced: true, refused: "clock is not set"},
	} {
		m := &broker.Message{Payload: []byte(tt.payload), Properties: properties(tt.properties...), Retain: tt.retain, Expires: tt.expiry > 0, Expiry: tt.expiry}
		_, err := parseCommand(m, &c, freshness{now: now, clockSynced: !tt.unsynced, ageKnown: true})
		if got := fmt.Sprint(err); (err != nil) != (tt.refused != "") || !strings.Contains(got, tt.refused) {
			t.Errorf("%s: got %v, want %q", tt.what, err, tt.refused)
		}
	}
}

// TestClocksOfSenders: with no clock here, a command is as old as it is later than the quickest one of its sender, whatever
// the two clocks show.
func TestClocksOfSenders(t *testing.T) {
	for _, offset := range []time.Duration{0, -50 * 365 * 24 * time.Hour, 3 * time.Hour, -time.Second} {
		c := newClocks()
		at := func(d time.Duration) time.Time { return c.began.Add(d) }             // here
		by := func(d time.Duration) time.Time { return at(d).Round(0).Add(offset) } // the sender's
		age := func(sent, now time.Duration) time.Duration {
			d, known := c.since("s", by(sent), at(now))
			if !known {
				return -1
			}
			return d.Round(time.Millisecond)
		}
		if got := age(0, 0); got != -1 {
			t.Errorf("nothing has come yet: %v", got)
		}
		c.note("s", by(0), at(300*time.Millisecond)) // a slow one
		c.note("s", by(time.Second), at(time.Second+20*time.Millisecond))
		c.note("s", by(2*time.Second), at(40*time.Second)) // one that was queued, unmarked
		if got := age(50*time.Second, 50*time.Second+20*time.Millisecond); got != 0 {
			t.Errorf("offset %v: as quick as the quickest: %v", offset, got)
		}
		if got := age(20*time.Second, 60*time.Second); got != 40*time.Second-20*time.Millisecond {
			t.Errorf("offset %v: queued for 40s: %v", offset, got)
		}
		// The sender's clock is set: forward that is known at once, back when the window is over.
		offset -= time.Hour
		if got := age(61*time.Second, 61*time.Second); got < 59*time.Minute {
			t.Errorf("offset %v: set back: %v", offset, got)
		}
		for i := range 25 {
			d := time.Minute + time.Duration(i)*time.Minute
			c.note("s", by(d), at(d+20*time.Millisecond))
		}
		if got := age(26*time.Minute, 26*time.Minute+20*time.Millisecond); got != 0 {
			t.Errorf("offset %v: 25 minutes after it was set back: %v", offset, got)
		}
		offset += 2 * time.Hour
		c.note("s", by(27*time.Minute), at(27*time.Minute))
		if got := age(28*time.Minute, 28*time.Minute); got != 0 {
			t.Errorf("offset %v: set forward: %v", offset, got)
		}
	}
	c := newClocks()
	for i := range 10 * maxClocks {
		c.note(fmt.Sprint(i), c.began, c.began)
	}
	if n := len(c.by); n == 0 || n > maxClocks {
		t.Errorf("%d clocks are remembered", n)
	}
	c.note("far", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), c.began)
	if d, known := c.since("far", time.Time{}, c.began); !known || d <= 0 {
		t.Errorf("from the end of time to its beginning: %v, %v", d, known)
	}
}
