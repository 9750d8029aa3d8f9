package chips_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

func TestExec(t *testing.T) {
	meter := map[string]string{"power": "meter.phases[1].w", "on": "relay"}
	for _, tt := range []struct {
		name    string
		command []string
		values  map[string]string
		want    string
	}{
		{"a number", []string{"echo", " 21.5 "}, nil, "map[value:21.5]"},
		{"no shell", []string{"echo", "$(date)"}, nil, `got "$(date)", want a number`},
		{"JSON", []string{"echo", `{"meter":{"phases":[{"w":1},{"w":"-230.5"}]},"relay":true}`}, meter, "map[on:1 power:-230.5]"},
		{"a place that is not there", []string{"echo", `{"meter":{"phases":[]}}`}, meter, "the JSON text has no"},
		{"no JSON", []string{"echo", "hello"}, meter, "JSON: "},
		{"a failure", []string{"sh", "-c", "echo no answer from the meter >&2; exit 3"}, nil, "exit status 3: no answer from the meter"},
		{"nothing", []string{"true"}, nil, `got "", want a number`},
		{"no such program", []string{"no-such-program"}, nil, "no answer: "},
		{"too much", []string{"yes"}, nil, "more than 64 KiB"},
		{"a mistake", []string{"echo"}, map[string]string{"Power W": "a"}, "cannot be part of a topic"},
		{"another", []string{"echo"}, map[string]string{"a": "b[x]"}, "place"},
		{"no command", nil, nil, "want a program"},
	} {
		s, err := outside(t, "exec", map[string]any{"command": tt.command, "values": tt.values})
		var m []sensors.Measurement
		if err == nil {
			m, err = s.Sense(context.Background())
		}
		got := fmt.Sprint(err)
		if err == nil {
			values := map[string]float64{}
			for _, v := range m {
				values[v.Quantity] = v.Value
			}
			got = fmt.Sprint(values)
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A command that is late is ended with everything that it has started.
func TestExecEndsTheWholeGroup(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	if err := syscall.Mkfifo(pids, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := outside(t, "exec", map[string]any{"command": []string{"sh", "-c", `sleep 1000 & echo $! > "$0"; wait`, pids}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	late := errors.New("no answer within 10s")
	ended := make(chan error, 1)
	go func() { _, err := s.Sense(ctx); ended <- err }()
	text, err := os.ReadFile(pids) // until the child is there
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(text), &pid)
	cancel(late)
	if err := <-ended; err != late {
		t.Errorf("got %v, want %v", err, late)
	}
	// It is dead; its new parent may not have asked for its status yet.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && !strings.Contains(string(stat), ") Z ") && syscall.Kill(pid, 0) == nil {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range 5000 {
			<-tick.C
			if stat, err = os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(stat), ") Z ") {
				return
			}
		}
		t.Errorf("the child %d lives on: %s", pid, stat)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "value")
	s, err := outside(t, "file", map[string]any{"path": path, "max_age": time.Hour, "units": map[string]string{"value": "W"}})
	if err != nil {
		t.Fatal(err)
	}
	fails := func(want string) {
		t.Helper()
		m, err := s.Sense(context.Background())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want %q", m, err, want)
		}
		if kept := (*sensors.Unreadable)(nil); !errors.As(err, &kept) {
			t.Errorf("%v: what is known of the file is lost", err)
		}
	}
	if _, err := s.Sense(context.Background()); !errors.Is(err, bus.ErrAbsent) {
		t.Errorf("no file: %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("-12.5\n")
	if m, err := s.Sense(context.Background()); err != nil || m[0] != (sensors.Measurement{Quantity: "value", Value: -12.5, Unit: "W"}) {
		t.Errorf("got %v, %v", m, err)
	}
	write("NaN")
	fails("want a number")
	write(strings.Repeat("1", 1<<17))
	fails("more than 64 KiB")
	write("1")
	if err := os.Chtimes(path, time.Now(), time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	fails("was written 2h0m0s ago")
	// A time in the future says nothing, until the file is seen to be written again.
	future := func(d time.Duration) {
		if err := os.Chtimes(path, time.Now(), time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
	}
	s, _ = outside(t, "file", map[string]any{"path": path, "max_age": time.Hour})
	future(2 * time.Hour)
	fails("was written in the future")
	fails("was written in the future")
	future(3 * time.Hour)
	for range 2 {
		if m, err := s.Sense(context.Background()); err != nil || m[0].Value != 1 {
			t.Errorf("written again: got %v, %v", m, err)
		}
	}
	s, _ = outside(t, "file", map[string]any{"path": path, "max_age": time.Nanosecond})
	fails("was written in the future")
	future(4 * time.Hour)
	fails("was written")
	s, _ = outside(t, "file", map[string]any{"path": path})
	if m, err := s.Sense(context.Background()); err != nil || m[0].Value != 1 {
		t.Errorf("of any age: got %v, %v", m, err)
	}
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fails("no regular file") // and does not wait for a writer
	s, _ = outside(t, "file", map[string]any{"path": dir})
	fails("no regular file")
}

// station is a host with a broker of one topic.
type station struct {
	sensors.NoHost
	topic string
	say   func(payload []byte)
}

func (s *station) Subscribe(topic string, f func([]byte)) (func(), error) {
	s.topic, s.say = topic, f
	return func() { s.say = nil }, nil
}

func TestMQTT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &station{}
		c := config("s", "mqtt", "", 10*time.Second)
		c.Host = host
		c.Options["topic"], c.Options["values"] = "shelly/1/status", map[string]string{"power": "apower"}
		s, err := driver(t, "mqtt").Open(context.Background(), c, bus.NewSet(nil))
		if err != nil || host.topic != "shelly/1/status" {
			t.Fatal(host.topic, err)
		}
		var later *sensors.NotYet
		if _, err := s.Sense(context.Background()); !errors.As(err, &later) {
			t.Errorf("no message yet: %v", err)
		}
		host.say([]byte(`{"apower": 1}`))
		host.say([]byte(`{"apower": 42.5}`))
		if got := sense(t, s); got["power"] != 42.5 {
			t.Errorf("got %v, want the newest", got)
		}
		if m, err := s.Sense(context.Background()); !errors.As(err, &later) {
			t.Errorf("an old message again: %v, %v", m, err)
		}
		host.say([]byte("{"))
		if m, err := s.Sense(context.Background()); err == nil || errors.As(err, &later) {
			t.Errorf("got %v, %v", m, err)
		}
		host.say(nil)
		if m, err := s.Sense(context.Background()); err == nil || errors.As(err, &later) {
			t.Errorf("got %v, %v", m, err)
		}
		time.Sleep(6 * time.Minute)
		if m, err := s.Sense(context.Background()); !errors.Is(err, bus.ErrAbsent) {
			t.Errorf("a sender that is silent: %v, %v", m, err)
		}
		s.Close()
		if host.say != nil {
			t.Error("it goes on listening")
		}
		if _, err := outside(t, "mqtt", map[string]any{"topic": "a/+"}); err == nil || !strings.Contains(err.Error(), "wildcards") {
			t.Errorf("wildcards: %v", err)
		}
		if _, err := outside(t, "mqtt", map[string]any{"topic": "$share/g/a"}); err == nil || !strings.Contains(err.Error(), "shared") {
			t.Errorf("a shared subscription: %v", err)
		}
		if _, err := outside(t, "mqtt", map[string]any{"topic": "a"}); !errors.Is(err, sensors.ErrPermanent) {
			t.Errorf("no broker: %v", err)
		}
	})
}
