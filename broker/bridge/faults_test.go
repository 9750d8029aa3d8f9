package bridge

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
	"holdfast/broker/wire"
)

const faultWindow = 10

// load is what goes over a link that fails.
type load struct {
	name       string
	out, in    int // messages
	boundaries int // at least the packets of a connection without faults, each way
}

var loads = []load{
	{"out", 30, 0, 40},
	{"in", 0, 20, 40},
	{"both", 15, 15, 40},
}

// TestFaultsAtEveryPacket drains a journal over links that fail at the boundaries of packets, has commands come
// in by them, and both by the same connections, on a fake clock. The first connection of each run fails at one
// boundary in one way, and up to four later ones as the seed has it. With HOLDFAST_FAULT_RUNS=1000, as `make
// states` does it, the first ones cover every boundary and every way with each version; less than that are spread
// over them.
func TestFaultsAtEveryPacket(t *testing.T) {
	const all = 1000
	runs := 20
	if n := os.Getenv("HOLDFAST_FAULT_RUNS"); n != "" {
		var err error
		if runs, err = strconv.Atoi(n); err != nil || runs < 1 || runs > all {
			t.Fatalf("HOLDFAST_FAULT_RUNS=%q, want 1 to %d", n, all)
		}
	}
	for _, l := range loads {
		for i := range uint64(runs) {
			seed := i * 387 % all // each once, far from the last
			t.Run(fmt.Sprintf("%s/%d", l.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { l.run(t, seed, l.plans(seed)) })
			})
		}
	}
}

// TestBoundariesOfFaults: there are not more packets than boundaries that links fail at.
func TestBoundariesOfFaults(t *testing.T) {
	for _, l := range loads {
		for version := range uint64(2) {
			synctest.Test(t, func(t *testing.T) {
				link := l.run(t, version*l.ways(), nil)
				t.Log(l.name, version, link.most)
				if link.connections != 1 || max(link.most[true], link.most[false]) > l.boundaries {
					t.Errorf("%s: %v packets over %d connections, want at most %d each way", l.name, link.most, link.connections, l.boundaries)
				}
			})
		}
	}
}

func (l *load) ways() uint64 { return uint64(2 * l.boundaries * int(faults)) }

func (l *load) plans(seed uint64) []map[at]fault {
	rng := rand.New(rand.NewPCG(seed, 1))
	n := int(seed % l.ways())
	plans := []map[at]fault{{at{n%2 == 1, n / 2 % l.boundaries}: fault(n / 2 / l.boundaries)}}
	for range rng.IntN(5) {
		plans = append(plans, map[at]fault{at{rng.IntN(2) == 1, rng.IntN(l.boundaries)}: fault(rng.IntN(int(faults)))})
	}
	return plans
}

func (l *load) run(t *testing.T, seed uint64, plans []map[at]fault) *faultyLink {
	j, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := j.OpenReader("bridge/test")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, j: j, reader: r}
	s.numbers(0, l.out)

	version := []wire.Version{wire.V311, wire.V5}[seed/l.ways()%2]
	var arrived, executed []int
	up := &memoryBroker{
		got:      func(p *wire.Publish) { arrived = append(arrived, number(p.Payload)) },
		commands: l.commands(version), lowest: seed%2 == 0,
	}
	link := &faultyLink{to: up, plans: plans, rng: rand.New(rand.NewPCG(seed, 0)), most: map[bool]int{}, dropped: map[bool]bool{}}
	b := run(t, s, []string{"mqtt://upstream"}, func(o *Options) {
		o.Dial, o.Protocol, o.Window = link.dial, version, faultWindow
		o.BackoffMin, o.BackoffMax = time.Second, time.Minute
		o.Out[0].Filter = "t/#"
		if l.in == 0 {
			return
		}
		o.In, o.Journal, o.Origin = []Rule{{Filter: "site/#", QoS: 1}}, j, "here"
		o.Publish = func(m *broker.Message, changes []journal.Change, done func(error)) {
			executed = append(executed, number(m.Payload))
			if err := j.Append(journal.Entry{Changes: changes, Done: committed(done)}); err != nil {
				t.Error(err)
			}
		}
	})
	began := time.Now()
	rest := func() int { return int(b.Stats().Depth) + up.owes() + max(0, l.in-int(b.Stats().Received)) }
	for rest() > 0 && time.Since(began) < 2*time.Hour {
		time.Sleep(time.Second)
	}
	left := rest()
	b.stop()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	link.work.Wait()
	if left > 0 {
		t.Errorf("%d messages have not arrived after %v", left, time.Since(began))
	}
	first := once(arrived)
	if link.dropped[true] { // what follows a message that vanished is before it
		slices.Sort(first)
	}
	if !slices.Equal(first, sequence(0, l.out)) {
		t.Errorf("arrived for the first time: %v; faults %v", first, plans)
	}
	if most := l.out + (link.connections-1)*faultWindow; len(arrived) > most {
		t.Errorf("%d messages over %d connections, want at most %d", len(arrived), link.connections, most)
	}
	if version == wire.V311 && (link.dropped[true] || link.dropped[false]) { // the answer to a ping proves nothing then
		executed = once(executed)
	}
	if link.dropped[false] {
		slices.Sort(executed)
	}
	if !slices.Equal(executed, sequence(0, l.in)) {
		t.Errorf("carried out %v; faults %v", executed, plans)
	}
	return link
}

// commands are numbered. With MQTT 5 they come from another gateway, which has sent some of them twice.
func (l *load) commands(version wire.Version) (all []*wire.Publish) {
	command := func(n int) {
		p := &wire.Publish{Topic: "site/cmd", QoS: 1, Payload: binary.BigEndian.AppendUint32(nil, uint32(n))}
		if version == wire.V5 {
			p.Forward = wire.AppendUser(nil, markName, fmt.Appendf(nil, "there/x/1/%d", n+1))
		}
		all = append(all, p)
	}
	for n := range l.in {
		command(n)
		if version == wire.V5 && n%10 == 9 {
			command(n - 1)
			command(n)
		}
	}
	return all
}

// once leaves the first of each number.
func once(numbers []int) (first []int) {
	for _, n := range numbers {
		if !slices.Contains(first, n) {
			first = append(first, n)
		}
	}
	return first
}
