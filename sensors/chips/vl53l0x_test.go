package chips

import (
	"math"
	"testing"
	"time"

	"holdfast/sensors"
)

func TestVL53L0XResult(t *testing.T) {
	result := func(status byte, signal, mm uint16) [12]byte {
		return [12]byte{0: status << 3, 6: byte(signal >> 8), 7: byte(signal), 10: byte(mm >> 8), 11: byte(mm)}
	}
	m, err := decodeVL53L0X(result(11, 1280, 345))
	if err != nil || len(m) != 3 || m[0].Value != 345 || m[1].Value != 1 || m[2].Value != 10 {
		t.Errorf("got %v, %v, want 345 mm, a target and 10 MCPS", m, err)
	}
	for status := range byte(16) {
		m, err := decodeVL53L0X(result(status, 64, 8190))
		switch status {
		case 11:
		case 8, 10:
			if err != nil || len(m) != 2 || m[0] != (sensors.Measurement{Quantity: "target", Value: 1, Unit: "1"}) {
				t.Errorf("status %d, too near: got %v, %v, want a target and no distance", status, m, err)
			}
		case 4, 6, 9:
			if err != nil || len(m) != 2 || m[0] != (sensors.Measurement{Quantity: "target", Unit: "1"}) {
				t.Errorf("status %d: got %v, %v, want no target and no distance", status, m, err)
			}
		default:
			if err == nil || len(m) > 0 {
				t.Errorf("status %d: got %v", status, m)
			}
		}
	}
}

// TestVL53L0XTiming adds up what was set, as VL53L0X_get_measurement_timing_budget_micro_seconds does.
func TestVL53L0XTiming(t *testing.T) {
	for _, long := range []bool{false, true} {
		for _, budget := range []time.Duration{20 * time.Millisecond, 33 * time.Millisecond, 200 * time.Millisecond, time.Second} {
			regs, page := map[byte]byte{}, byte(0)
			for _, w := range append(append([][2]byte{}, vl53l0xTuning...), vl53l0xTiming(budget, long)...) {
				if w[0] == vl53l0xPage {
					page = w[1]
				} else if page == 0 {
					regs[w[0]] = w[1]
				}
			}
			macro := func(reg byte) float64 { return 2304 * 2 * (float64(regs[reg]) + 1) * 1.655e-3 }
			timeout := func(reg byte) float64 { return float64(int(regs[reg+1])<<regs[reg]) + 1 }
			µs := 1320 + 960 + 2*((float64(regs[0x46])+1)*macro(0x50)+690) + timeout(0x51)*macro(0x50) + 660 +
				(timeout(0x71)-timeout(0x51))*macro(0x70) + 550
			// A timeout has 8 significant bits.
			if want := float64(budget.Microseconds()); math.Abs(µs-want) > 0.01*want {
				t.Errorf("%v, long range %v: got %.0f µs", budget, long, µs)
			}
		}
	}
}

func TestVL53L0XSpads(t *testing.T) {
	all := [6]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	if got := vl53l0xSpads(all, 3, false); got != [6]byte{0: 7} {
		t.Errorf("three: % x", got)
	}
	if got := vl53l0xSpads(all, 5, true); got != [6]byte{1: 0xF0, 2: 1} {
		t.Errorf("five with apertures: % x", got)
	}
	if got := vl53l0xSpads([6]byte{5: 0x80}, 127, true); got != [6]byte{5: 0x80} {
		t.Errorf("fewer good ones than wanted: % x", got)
	}
}

func FuzzVL53L0X(f *testing.F) {
	f.Add([]byte{11 << 3, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 2}, byte(5))
	f.Fuzz(func(t *testing.T, b []byte, spads byte) {
		if len(b) < 12 {
			return
		}
		if m, err := decodeVL53L0X([12]byte(b)); (err == nil) == (len(m) == 0) {
			t.Errorf("got %v, %v", m, err)
		}
		vl53l0xSpads([6]byte(b), int(spads&0x7F), spads&0x80 != 0)
	})
}
