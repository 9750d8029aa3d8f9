package simulated

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors/bus"
)

func TestModelsAreComplete(t *testing.T) {
	last := ""
	for _, m := range Models() {
		if m.Name <= last {
			t.Errorf("%s is not in its place, after %s", m.Name, last)
		}
		last = m.Name
		regs := newChip(m, 0).regs
		for _, k := range m.Buses {
			ok := false
			switch k {
			case bus.I2CKind:
				_, ok = regs.(i2cChip)
			case bus.SPIKind:
				_, ok = regs.(spiChip)
			case bus.UARTKind:
				_, ok = regs.(uartChip)
			case bus.GPIOKind:
				_, ok = regs.(lineChip)
				ok = ok && len(m.Lines) > 0
			}
			if !ok {
				t.Errorf("%s cannot be on %s", m.Name, k)
			}
		}
		if len(m.Buses) == 0 || (len(m.Inputs) == 0) != m.Output || m.Faults&anyChip != 0 {
			t.Errorf("%s: %+v", m.Name, m)
		}
		for _, in := range m.Inputs {
			if in.Name == "" || in.Min >= in.Max || in.Step <= 0 {
				t.Errorf("%s: input %+v", m.Name, in)
			}
		}
	}
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		c, err := p.Place("bme280", "simulated", 0x76)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := p.I2C("simulated")
		ctrl := func(set bool) (v byte, err error) {
			if set {
				err = b.Tx(0x76, []byte{regCtrlHum, 1}, nil)
			}
			r := make([]byte, 1)
			if err == nil {
				err = b.Tx(0x76, []byte{regCtrlHum}, r)
			}
			return r[0], err
		}
		begun := time.Now()
		at := func(s int) time.Time { return begun.Add(time.Duration(s) * time.Second) }
		until := func(s int) { time.Sleep(time.Until(at(s))) }
		c.Schedule(Window{at(30), at(40), Hang}, Window{at(10), at(20), NACK}, Window{at(50), at(51), PowerCycle},
			Window{at(60), at(70), Unplugged})
		ctrl(true)
		until(15)
		if _, err := ctrl(false); err != refused {
			t.Errorf("nack: %v", err)
		}
		until(35)
		if v, err := ctrl(false); v != 1 || err != nil || time.Now().Before(at(40)) || time.Now().After(at(41)) {
			t.Errorf("hang: %v %v after %v", v, err, time.Since(begun))
		}
		until(55)
		if v, err := ctrl(false); v != 0 || err != nil {
			t.Errorf("a power cycle that no transfer saw: %v %v", v, err)
		}
		ctrl(true)
		until(75)
		if v, err := ctrl(false); v != 0 || err != nil {
			t.Errorf("unplugged and back between transfers: %v %v", v, err)
		}
	})
}

func TestRandomWindows(t *testing.T) {
	from := time.Unix(0, 0)
	until := from.Add(1000 * time.Second)
	w := RandomWindows(1, from, until, time.Second, 0.05, NACK, Hang)
	if len(w) < 20 || len(w) > 90 {
		t.Errorf("%d windows of 1000, want about 50", len(w))
	}
	again := RandomWindows(1, from, until, time.Second, 0.05, NACK, Hang)
	for i := range w {
		if w[i] != again[i] {
			t.Fatal("the seed does not decide")
		}
	}
}

func TestChecksumsAndIdentification(t *testing.T) {
	c := newChip(bme280Model(), 0)
	for _, f := range []Faults{0, BadCRC, WrongID} {
		c.faults = f
		if (c.sum(1) != 1) != (f == BadCRC) || (c.id(1) != 1) != (f == WrongID) {
			t.Errorf("%v: sum %d, id %d", f, c.sum(1), c.id(1))
		}
	}
}

// talker is a chip on a serial port: it says so every second, and answers.
type talker struct{}

func (talker) reset()                                {}
func (talker) receive(b []byte) []byte               { return append([]byte("re "), b...) }
func (talker) frame() (b []byte, wait time.Duration) { return []byte("tick"), time.Second }

func TestSerialPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		c := newChip(&Model{Name: "talker", New: func(*Chip) Registers { return talker{} }}, 0)
		p.chips[place{bus: "simulated"}] = c
		u, err := bus.NewSet(p).UART("simulated", 9600)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		u.Begin(ctx)
		read := func() string {
			b := make([]byte, 16)
			n, err := u.Read(b)
			if err != nil {
				t.Errorf("read: %v", err)
			}
			return string(b[:n])
		}
		if got := read(); got != "tick" {
			t.Errorf("got %q", got)
		}
		if _, err := u.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != "re x" {
			t.Errorf("got %q", got)
		}
		time.Sleep(3 * time.Second)
		u.Flush()
		if got := read(); got != "tick" {
			t.Errorf("after the flush: got %q, want one", got)
		}
		c.Fault(Unplugged)
		u.Begin(ctx)
		if _, err := u.Read(make([]byte, 1)); err == nil {
			t.Error("unplugged, and it speaks")
		}
	})
}

func TestAChipFollowsALine(t *testing.T) {
	p := New(Options{})
	data := p.GPIO(5)
	p.GPIO(4).onChange(data.Set)
	clock, err := bus.NewSet(p).Output("simulated", bus.LineOptions{Offset: 4}, true)
	if err != nil {
		t.Fatal(err)
	}
	if !data.High() {
		t.Error("the chip did not see the line rise")
	}
	if err := clock.SetValue(0); err != nil || data.High() {
		t.Errorf("the chip did not see the line fall: %v", err)
	}
}
