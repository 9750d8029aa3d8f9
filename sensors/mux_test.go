package sensors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// TestChannelsOfMultiplexers puts chips with one address behind five channels of two multiplexers, and
// one on the bus itself, read one after the other by the one worker of the bus. Two that answered
// together would be an error, and each has a value of its own.
func TestChannelsOfMultiplexers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		where := []string{"simulated/0x70/0", "simulated", "simulated/0x70/7", "simulated/0x71/0", "simulated/0x71/3", "simulated/0x70/3"}
		var configs []sensors.Config
		for i, name := range where {
			c := config(fmt.Sprint(i), "tmp102", name, time.Second)
			if c.Address = 0x48; name == "simulated" {
				c.Address = 0x49 // it would answer to all channels
			}
			configs = append(configs, c)
		}
		if err := pi.Populate(chips.Drivers(), configs...); err != nil {
			t.Fatal(err)
		}
		for i, name := range where {
			pi.Chip(name, configs[i].Address).Set("temperature", float64(10*i))
		}
		set := bus.NewSet(pi)
		transfers := 0
		set.Trace = func(bus.Transfer) { transfers++ }
		w := supervise(t, set, chips.Drivers(), configs...)
		values := func() {
			t.Helper()
			w.mu.Lock()
			defer w.mu.Unlock()
			for i := range where {
				all := w.readings[fmt.Sprint(i)]
				if len(all) < 4 {
					t.Errorf("%s: %d readings", where[i], len(all))
				}
				for _, r := range all {
					if r.Value != float64(10*i) {
						t.Errorf("%s: got %v, want %d", where[i], r.Value, 10*i)
					}
				}
				w.readings[fmt.Sprint(i)] = nil
			}
		}
		time.Sleep(5 * time.Second)
		values()

		// A multiplexer that is gone takes only what is behind it, and comes back with it.
		pi.Chip("simulated", 0x70).Fault(simulated.Unplugged)
		time.Sleep(5 * time.Second)
		if s := w.last("0"); s.State != sensors.StateAbsent || !strings.Contains(s.Reason, "multiplexer at 0x70") {
			t.Errorf("got %+v, want absent because of the multiplexer", s)
		}
		for _, i := range []string{"1", "3", "4"} {
			if s := w.last(i); s.State != sensors.StateOK {
				t.Errorf("%s: %+v", i, s)
			}
		}
		pi.Chip("simulated", 0x70).Fault(0)
		time.Sleep(time.Minute)
		pi.Chip("simulated", 0x71).Fault(simulated.PowerCycle) // in silence: no channel is connected any more
		time.Sleep(30 * time.Second)
		values()
		w.stop()
		if err := set.Close(); err != nil || transfers == 0 {
			t.Errorf("close: %v", err)
		}
	})
}

func TestNamesOfChannels(t *testing.T) {
	set := bus.NewSet(simulated.New(simulated.Options{}))
	for _, name := range []string{"simulated/0x78/0", "simulated/0x70/8", "simulated/0x6f/1", "simulated/0x70", "simulated/0x70/-1", "simulated/0xzz/1"} {
		if _, err := set.I2C(name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	b, err := set.I2C("simulated/0x70/0")
	if err != nil {
		t.Fatal(err)
	}
	c := b.Conn()
	c.Begin(context.Background())
	if err := c.Tx(0x70, nil, []byte{0}); err == nil || !strings.Contains(err.Error(), "own") {
		t.Errorf("the multiplexer's own address: %v", err)
	}
	if err := c.Tx(0x48, nil, []byte{0}); !errors.Is(err, bus.ErrAbsent) {
		t.Errorf("no multiplexer: %v", err)
	}
	if bus.Shared("i2c-1/0x70/3") != "i2c-1" || bus.Shared("simulated/0x70/3") != "simulated" {
		t.Error("a channel has other wires than its bus")
	}
}
