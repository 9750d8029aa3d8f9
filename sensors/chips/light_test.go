package chips

import (
	"errors"
	"testing"

	"holdfast/sensors"
)

func TestVEML7700Lux(t *testing.T) {
	// Data sheet 84286: a count is 0.0042 lx at gain 2 and 800 ms, and twice that with half of either.
	near(t, "gain 2, 800 ms", veml7700Lux(1000, 2, 800), 4.2, 0.02)
	near(t, "gain 1, 800 ms", veml7700Lux(1000, 1, 800), 8.4, 0.03)
	near(t, "gain 2, 100 ms", veml7700Lux(1000, 2, 100), 33.6, 0.2)
	near(t, "gain 1/8, 25 ms", veml7700Lux(10, 0.125, 25), 21.504, 0.1)
	// Application note 84323: 10000 lx by the counts (of 0.0036 lx) are 14793 lx.
	near(t, "bright", veml7700Lux(5425, 0.125, 25)*0.0036/0.0042, 14793, 5)
	last := -1.0
	for count := 0; count < 1<<16; count += 16 {
		lux := veml7700Lux(uint16(count), 0.125, 25)
		if lux <= last {
			t.Fatalf("count %d: %v lx after %v", count, lux, last)
		}
		last = lux
	}
}

func TestTSL2591Lux(t *testing.T) {
	lux, share := tsl2591Lux(1, 0.2)
	near(t, "lux", lux, 408*0.8*0.8, 1e-9)
	near(t, "infrared", share, 20, 1e-9)
	for _, v := range []struct{ c0, c1, lux, share float64 }{{0, 0, 0, 0}, {1, 1, 0, 100}, {0, 3, 0, 100}, {0.1, 5, 0, 100}} {
		if lux, share := tsl2591Lux(v.c0, v.c1); lux != v.lux || share != v.share {
			t.Errorf("%+v: got %v and %v", v, lux, share)
		}
	}
}

// TestLightRangeEnds shows that light which never holds still is an error in the end.
func TestLightRangeEnds(t *testing.T) {
	l, per := &lightRange{}, []float64{1, 10, 100}
	for i := range 100 {
		count, saturated := uint16(0), false
		if i%2 == 1 {
			count, saturated = 65535, true
		}
		var again *sensors.NotYet
		if err := l.move(count, 100, 10000, saturated, per); err != nil && !errors.As(err, &again) {
			if i > 10 {
				t.Errorf("after %d changes", i)
			}
			return
		}
	}
	t.Error("it never ends")
}
