package chips

import "testing"

// TestINA226Example is the data sheet's (SBOS547A, table "Calculating current and power"): 20 mV across
// 2 mΩ, and 11.98 V, are 10 A and, in its steps of 25 mW, 119.8 W.
func TestINA226Example(t *testing.T) {
	m := inaMeasurements(0x1F40, 2.5e-6, 0x2570, 1.25e-3, 0.002)
	near(t, "voltage", m[0].Value, 11.98, 1e-9)
	near(t, "current", m[1].Value, 10, 1e-9)
	near(t, "power", m[2].Value, 119.8, 0.025)
}

// TestINA3221Example is the data sheet's (SBOS576B, shunt voltage register): -80 mV is C180.
func TestINA3221Example(t *testing.T) {
	raw := uint16(0xC180)
	m := inaMeasurements(int64(int16(raw)>>3), 40e-6, 1000, 8e-3, 0.1)
	near(t, "current", m[1].Value, -0.8, 1e-9)
	near(t, "voltage", m[0].Value, 8, 1e-9)
	near(t, "power", m[2].Value, -6.4, 1e-9)
}

func TestINAAverages(t *testing.T) {
	for n, want := range map[int64]int64{1: 1, 2: 4, 16: 16, 17: 64, 1000: 1024, 5000: 1024} {
		if _, got := inaConfig(n); got != want {
			t.Errorf("%d: got %d, want %d", n, got, want)
		}
	}
}
