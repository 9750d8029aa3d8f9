package sensors_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// fleet is 25 sensors of seven kinds on one bus.
var fleet = map[string][]uint16{
	"mcp9808": {0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F},
	"bh1750":  {0x23, 0x5C},
	"ina226":  {0x40, 0x41, 0x42, 0x43, 0x46, 0x47, 0x4C},
	"sht3x":   {0x44, 0x45},
	"ads1115": {0x48, 0x49, 0x4A, 0x4B},
	"bme280":  {0x76},
	"bmp280":  {0x77},
}

// soak is what is counted while 200 sensors on 8 buses are read once a second, with faults in a share of
// the time.
type soak struct {
	mu       sync.Mutex
	last     map[string]time.Time // of the last reading, if nothing failed since
	readings int                  // calls of a driver that were good
	values   int
	failures int
	worst    time.Duration // that a healthy reading was late, but for a conversion longer than half its interval
}

// kinds are the faults of one chip. A hang holds the wires for all, and is tested on its own.
var soakFaults = []simulated.Faults{
	simulated.NACK, simulated.Unplugged, simulated.PowerCycle, simulated.StuckBusy, simulated.WrongID, simulated.BadCRC, simulated.SlowClock,
}

func (s *soak) run(t *testing.T, length time.Duration, share float64) {
	pi := simulated.New(simulated.Options{Seed: 1})
	var configs []sensors.Config
	begun := time.Now()
	for b := 1; b <= 8; b++ {
		for driver, addresses := range fleet {
			for _, addr := range addresses {
				c := config(fmt.Sprintf("%s-%d-%#x", driver, b, addr), driver, fmt.Sprintf("simulated-%d", b), time.Second)
				c.Address = addr
				configs = append(configs, c)
				chip, err := pi.Place(driver, c.Bus, addr)
				if err != nil {
					t.Fatal(err)
				}
				chip.Schedule(simulated.RandomWindows(uint64(len(configs)), begun, begun.Add(length), 2*time.Second, share, soakFaults...)...)
			}
		}
	}
	if len(configs) != 200 {
		t.Fatalf("%d sensors, want 200", len(configs))
	}
	s.last = map[string]time.Time{}
	sup := sensors.NewSupervisor(configs, sensors.SupervisorOptions{Buses: bus.NewSet(pi), Drivers: chips.Drivers(), Reading: s.reading, Status: s.status})
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	sup.Run(ctx)
	if s.readings < 100*int(length/time.Second) || share > 0 && s.failures == 0 {
		t.Errorf("%d readings, %d failures", s.readings, s.failures)
	}
}

func (s *soak) reading(r sensors.Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values++
	last := s.last[r.Sensor]
	if last.Equal(r.Time) {
		return // another quantity of the same reading
	}
	s.readings++
	s.last[r.Sensor] = r.Time
	if last.IsZero() {
		return
	}
	late := r.Time.Sub(last) - time.Second
	if strings.HasPrefix(r.Sensor, "mcp9808") {
		late -= 550 * time.Millisecond // of its conversion, in which the bus is free for others
	}
	s.worst = max(s.worst, late)
}

func (s *soak) status(st sensors.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.State != sensors.StateOK {
		s.failures++
		delete(s.last, st.Sensor)
	}
}

func (s *soak) String() string {
	return fmt.Sprintf("%d readings (%d values), %d failures, the latest healthy one by %v", s.readings, s.values, s.failures, s.worst)
}

// TestSoak is on a fake clock, 90 s or as long as HOLDFAST_SOAK is: no healthy reading is late by more
// than its interval.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("HOLDFAST_SOAK"))
	if err != nil {
		length = 90 * time.Second
	}
	synctest.Test(t, func(t *testing.T) {
		var s soak
		s.run(t, length, 0.05)
		t.Log(&s)
		if s.worst > time.Second {
			t.Error("a healthy reading was late by more than its interval")
		}
	})
}
