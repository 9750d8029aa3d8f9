package chips_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

// TestSGP40IsCompensatedByTheSensorBesideIt checks the command that the chip gets on the bus.
func TestSGP40IsCompensatedByTheSensorBesideIt(t *testing.T) {
	for _, climate := range []string{"sht3x", "sht4x"} {
		synctest.Test(t, func(t *testing.T) {
			pi := simulated.New(simulated.Options{})
			place(t, pi, "sgp40", "simulated", 0x59)
			air := place(t, pi, climate, "simulated", 0x45)
			buses := bus.NewSet(pi)
			var told []byte
			buses.Trace = func(tr bus.Transfer) {
				if tr.Address == 0x59 && len(tr.W) == 8 {
					told = bytes.Clone(tr.W)
				}
			}
			d := driver(t, "sgp40")
			c := sensors.Config{Name: "s", Driver: "sgp40", Bus: "simulated", Address: 0x59, Every: time.Second, Options: map[string]any{
				"climate": climate, "climate_address": int64(0x45), "temperature": 0.0, "humidity": 0.0,
			}}
			ctx := context.Background()
			s, err := d.Open(ctx, c, buses)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []struct {
				t, rh float64
				want  []byte // words of both, without checksums
			}{{25, 50, []byte{0x80, 0x00, 0x66, 0x66}}, {-40, 0, []byte{0, 0, 0x07, 0x50}}, {125, 100, []byte{0xFF, 0xFF, 0xF8, 0xAF}}} {
				air.Set("temperature", v.t)
				air.Set("humidity", v.rh)
				sense(t, s)
				if got := []byte{told[2], told[3], told[5], told[6]}; absDiff(got[:2], v.want[:2]) > 2 || absDiff(got[2:], v.want[2:]) > 2 {
					t.Errorf("%s at %v °C and %v %%: the chip was told % x, want % x", climate, v.t, v.rh, got, v.want)
				}
			}
			air.Fault(simulated.NACK)
			if m, err := s.Sense(ctx); sensors.ClassOf(err) != sensors.Absent {
				t.Errorf("without the %s: got %v, %v", climate, m, err)
			}
		})
	}
}

func absDiff(a, b []byte) int {
	d := int(a[0])<<8 + int(a[1]) - int(b[0])<<8 - int(b[1])
	return max(d, -d)
}

// TestVOCIndexComesAfterTheBlackout: 45 s without an index, then one with every reading; and none if
// readings are too far apart for the algorithm.
func TestVOCIndexComesAfterTheBlackout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		place(t, pi, "sgp40", "simulated", 0x59).Set("voc_raw", 30000)
		c := sensors.Config{Name: "s", Driver: "sgp40", Bus: "simulated", Address: 0x59, Options: map[string]any{
			"climate": "fixed", "climate_address": int64(0x44), "temperature": 25.0, "humidity": 50.0,
		}}
		for every, want := range map[time.Duration]int{time.Second: 100 - 46, 10 * time.Second: 100 - 5, time.Minute: 0} {
			c.Every = every
			s, err := driver(t, "sgp40").Open(context.Background(), c, bus.NewSet(pi))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for range 100 {
				v := sense(t, s)
				if v["voc_raw"] != 30000 {
					t.Fatalf("got %v", v)
				}
				if _, ok := v["voc_index"]; ok {
					n++
				}
			}
			if n != want {
				t.Errorf("every %v: %d indices, want %d", every, n, want)
			}
		}
	})
}
