package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// Every queue has to keep what it acknowledged over a restart, once and in order: otherwise it is not
// the same work that is measured.
func TestQueuesKeepWhatTheyAcknowledge(t *testing.T) {
	messages := newMessages()
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "queue")
			q, err := e.open(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := &client{wake: make(chan struct{}, 1)}
			const count = 3000
			for i := range count {
				if err := q.put(&messages[i%len(messages)], c); err != nil {
					t.Fatal(err)
				}
			}
			for c.acked.Load() < count {
				<-c.wake
				c.credit.Store(0)
			}
			if err := c.failed.Load(); err != nil {
				t.Fatal(*err)
			}
			if err := q.close(); err != nil {
				t.Fatal(err)
			}
			if q, err = e.open(dir); err != nil {
				t.Fatal(err)
			}
			at := 0
			got, err := q.drain(t.Context(), func(m []byte) {
				if !bytes.HasSuffix(m, messages[at%len(messages)].Payload) {
					t.Errorf("message %d is another one", at)
				}
				at++
			})
			if err != nil || got != count {
				t.Errorf("drained %d, %v, want %d", got, err, count)
			}
			if err := q.close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A measurement has to be in the report of checks whichever way it turns out.
func TestChecks(t *testing.T) {
	good := Result{Target: "card", Queue: ours, Phase: "steady", InFlight: 320, Acks: 300, PerCommit: 320,
		FlashRatio: 1.1, Flushes: 1, CPU: 4, Heap: 9, Raw: 1}
	peer := Result{Target: "card", Queue: "peer", Phase: "steady", InFlight: 320, Acks: 200, PerCommit: 320, FlashRatio: 2, Flushes: 2}
	r := Report{Results: []Result{good, peer}, Backlog: []Backlog{{Target: "disk", Queue: ours, Bytes: 1e9, OpenMS: 5, Drain: 95, Read: 100}}}
	r.check()
	for _, c := range r.Checks {
		if !c.Met {
			t.Errorf("missed: %+v", c)
		}
	}
	good.Acks, good.FlashRatio, good.Flushes, good.CPU, good.Allocs, good.Heap = 100, 3, 4, 6, 1, 17
	bad := Report{Results: []Result{good, peer}, Backlog: []Backlog{{Target: "disk", Queue: ours, Bytes: 1e9, OpenMS: 51, Drain: 80, Read: 100, FillHeap: 17}}}
	bad.check()
	if len(bad.Checks) != len(r.Checks) {
		t.Fatalf("got %d checks, want %d", len(bad.Checks), len(r.Checks))
	}
	for _, c := range bad.Checks {
		if c.Met {
			t.Errorf("met: %+v", c)
		}
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	var results []Result
	for _, n := range []int{1, 10, 100, 320, 1000} {
		for _, e := range engines() {
			results = append(results, Result{Target: "card", Queue: e.name, Phase: "steady", InFlight: n, Acks: float64(100 * n), FlashRatio: 1 + 60/float64(n)})
		}
	}
	var b bytes.Buffer
	if err := plot(&b, results, "card"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Error("a coordinate is not a number")
	}
	d := xml.NewDecoder(&b)
	lines := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := token.(xml.StartElement); ok && s.Name.Local == "circle" {
			lines++
		}
	}
	if want := 2 * len(results); lines != want {
		t.Errorf("got %d points, want %d", lines, want)
	}
}

func TestOptionsSayWhatIsWrong(t *testing.T) {
	for _, args := range []string{"-n 0", "-n 1,x", "-n 9000", "-targets floppy", "-phases idle", "-only kafka", "-backlog 1TB",
		"-backlog 0MB", "-t 1ms", "-hourly 1s", "-reading 0", "steady"} {
		if _, err := parseOptions(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: got %v, want an error that says what is wanted", args, err)
		}
	}
	o, err := parseOptions([]string{"-quick", "-n", "7"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.inFlight) != 1 || o.inFlight[0] != 7 || o.backlogs[0] != 100e6 {
		t.Errorf("-quick -n 7: got %v in flight and backlog %v", o.inFlight, o.backlogs)
	}
}
