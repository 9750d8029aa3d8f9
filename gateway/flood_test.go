package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
	"holdfast/sensors/outputs"
)

// slowDisk is a disk on which nothing becomes durable while it is held.
type slowDisk struct {
	journal.FS
	held *sync.RWMutex
}

func (d slowDisk) Open(name string, write bool) (journal.File, error) {
	f, err := d.FS.Open(name, write)
	return slowFile{f, d.held}, err
}

type slowFile struct {
	journal.File
	held *sync.RWMutex
}

func (f slowFile) Datasync() error {
	f.held.RLock()
	defer f.held.RUnlock()
	return f.File.Datasync()
}

// TestAFloodToOneOutput: many commands to one output, each of which waits for the disk, do not delay another output;
// those that exceed the queue are refused with an answer, and the rest is carried out.
func TestAFloodToOneOutput(t *testing.T) {
	var held sync.RWMutex
	s := planSite(t, relays)
	s.opts.seams.openDisk = func(dir string) (journal.FS, error) {
		fs, err := journal.NewDirFS(dir)
		return slowDisk{fs, &held}, err
	}
	const flood = 1000
	results := make(chan message, flood)
	s.before = func(a *Agent) {
		if _, err := a.Subscribe("outputs/site/pump/result", func(m *broker.Message) {
			var r message
			if err := json.Unmarshal(m.Payload, &r); err != nil {
				t.Error(err)
			}
			results <- r
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	held.Lock()
	for i := range flood {
		s.publish(wire.Publish{Topic: "outputs/site/pump/set", Payload: fmt.Appendf(nil, `{"value":"off","id":"n%d"}`, i)})
	}
	s.publish(wire.Publish{Topic: "outputs/site/fan/set", Payload: []byte("0.75")})
	if !s.eventually(func() bool { now, _ := s.pi.Chip("simulated", 0x40).PWM(); return now[2] == 0.75 }) {
		t.Error("the fan does not move while the disk keeps the pump's commands")
	}
	if !s.eventually(func() bool { // what comes from one client is not yet all in its queue
		err := s.agent.made.outputs.Health()
		return err != nil && strings.Contains(err.Error(), "pump")
	}) {
		t.Error("health does not name the pump")
	}
	held.Unlock()
	done, refused, behind := 0, 0, 0
	for range flood {
		switch r := <-results; {
		case r.Result == outputs.Done:
			done++
		case r.Reason == "too many commands at once":
			refused++
		case strings.HasSuffix(r.Reason, "commands wait for the hardware already"): // they left the queue faster than it is
			behind++
		default:
			t.Errorf("got %+v", r)
		}
	}
	if done == 0 || done+behind < 500 || refused < 400 {
		t.Errorf("%d carried out, %d and %d refused of %d", done, refused, behind, flood)
	}
	if !s.eventually(func() bool { return s.agent.made.outputs.Health() == nil }) {
		t.Errorf("health: %v", s.agent.made.outputs.Health())
	}
}
