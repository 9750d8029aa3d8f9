package bus

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeLines is a simulator of which only the lines are used: one line, whose edges the test makes.
type fakeLines struct {
	Simulator
	opened, closed int
	edge           func(Edge)
	err            error // of Value
}

func (f *fakeLines) Edges(_ LineOptions, _ bool, edge func(Edge)) (Line, error) {
	if f.opened > f.closed {
		return nil, syscall.EBUSY
	}
	f.opened++
	f.edge = edge
	return f, nil
}

func (f *fakeLines) Value() (int, error) { return 1, f.err }
func (f *fakeLines) Close() error        { f.closed++; return nil }

// TestOneLineForSeveral: the kernel gives a line once, and each of its users numbers its edges from when it came.
func TestOneLineForSeveral(t *testing.T) {
	sim := &fakeLines{}
	set := NewSet(sim)
	o := LineOptions{Offset: 4, Debounce: time.Millisecond}
	var first, second []uint32
	open := func(o LineOptions, both bool, to *[]uint32) (Line, error) {
		return set.Edges("simulated", o, both, func(e Edge) { *to = append(*to, e.Seq) })
	}
	a, err := open(o, true, &first)
	if err != nil {
		t.Fatal(err)
	}
	sim.edge(Edge{Seq: 1})
	sim.edge(Edge{Seq: 0}) // as before Linux 5.10
	b, err := open(o, true, &second)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]LineOptions{"bias": {Offset: 4, Debounce: time.Millisecond, Bias: BiasPullUp}, "debounce": {Offset: 4}} {
		if _, err := open(wrong, true, &second); !errors.Is(err, ErrBusy) {
			t.Errorf("another %s: got %v", name, err)
		}
	}
	if _, err := open(o, false, &second); !errors.Is(err, ErrBusy) {
		t.Errorf("one kind of edge: got %v", err)
	}
	sim.edge(Edge{Seq: 3})
	sim.edge(Edge{Seq: 7})
	a.Close()
	sim.edge(Edge{Seq: 8})
	if !slices.Equal(first, []uint32{1, 2, 3, 7}) || !slices.Equal(second, []uint32{1, 5, 6}) {
		t.Errorf("got %v and %v", first, second)
	}
	if sim.closed != 0 {
		t.Error("closed, and one has it")
	}

	// Broken for one is broken for all, and the last one gives it back.
	c, err := open(o, true, &first)
	if err != nil {
		t.Fatal(err)
	}
	sim.err = syscall.ENODEV
	if _, err := b.Value(); !errors.Is(err, ErrAbsent) {
		t.Errorf("got %v", err)
	}
	sim.err = nil
	if _, err := c.Value(); !errors.Is(err, ErrAbsent) {
		t.Errorf("for the other one: got %v", err)
	}
	if _, err := open(o, true, &first); !errors.Is(err, ErrBusy) {
		t.Errorf("while they have it: got %v", err)
	}
	b.Close()
	c.Close()
	c.Close()
	if sim.opened != 1 || sim.closed != 1 {
		t.Errorf("opened %d times, closed %d times", sim.opened, sim.closed)
	}
	d, err := open(LineOptions{Offset: 4}, false, &first)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := d.Value(); v != 1 || err != nil || sim.opened != 2 {
		t.Errorf("opened anew: got %d, %v", v, err)
	}
	d.Close()
}

// TestKernelTime: a stamp of the kernel's clock becomes the time at which it was taken, and a clock that is another one
// does not count.
func TestKernelTime(t *testing.T) {
	var ts unix.Timespec
	before := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	stamp := time.Duration(ts.Nano())
	if got := kernelTime(stamp); got.Before(before) || got.After(time.Now()) {
		t.Errorf("got %v, want between %v and now", got, before)
	}
	if got := kernelTime(stamp - time.Minute); got.Before(before.Add(-time.Minute)) || got.After(after) {
		t.Errorf("a minute before: got %v, want a minute before %v", got, before)
	}
	for _, other := range []time.Duration{stamp + time.Hour, stamp - 2*time.Hour, time.Duration(after.UnixNano())} {
		if got := kernelTime(other); got.Before(after) {
			t.Errorf("another clock: got %v, want now", got)
		}
	}
}
