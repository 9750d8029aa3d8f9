package chips

import (
	"math"
	"testing"

	"holdfast/sensors"
)

// TestPlatinumOfIEC60751 uses values of the standard's table for Pt100.
func TestPlatinumOfIEC60751(t *testing.T) {
	for celsius, ohm := range map[float64]float64{
		-200: 18.52, -150: 39.72, -100: 60.26, -50: 80.31, -10: 96.09, 0: 100, 10: 103.90, 25: 109.73, 50: 119.40,
		100: 138.51, 200: 175.86, 400: 247.09, 600: 313.71, 850: 390.48,
	} {
		for _, r0 := range []float64{100, 1000} {
			got, err := platinumCelsius(ohm*r0/100, r0)
			if err != nil || math.Abs(got-celsius) > 0.02 {
				t.Errorf("%v Ω: got %.3f °C, %v, want %v", ohm*r0/100, got, err, celsius)
			}
		}
	}
	for _, ohm := range []float64{0, 10, 391.5, 1e6, math.NaN(), math.Inf(1)} {
		if got, err := platinumCelsius(ohm, 100); err == nil {
			t.Errorf("%v Ω: got %v °C", ohm, got)
		}
	}
}

// TestMAX31865Registers uses the data sheet's table of RTD register values for a reference of 400 Ω.
func TestMAX31865Registers(t *testing.T) {
	for rtd, celsius := range map[uint16]float64{0x4000 >> 1: 0, 0x58A4 >> 1: 100, 0xF9E8 >> 1: 850} {
		got, err := platinumCelsius(max31865Ohm(rtd, 400), 100)
		if err != nil || math.Abs(got-celsius) > 0.05 { // one count is 0.03 °C
			t.Errorf("%#04x: got %v, %v, want %v", rtd, got, err, celsius)
		}
	}
}

// TestMAX31865EveryCode shows that whatever the register holds is a temperature or an error.
func TestMAX31865EveryCode(t *testing.T) {
	last := -201.0
	for rtd := range uint16(1 << 15) {
		got, err := platinumCelsius(max31865Ohm(rtd, 430), 100)
		if err != nil {
			continue
		}
		if got <= last || got > 850.5 {
			t.Fatalf("%#04x: got %v after %v", rtd, got, last)
		}
		last = got
	}
	if last < 850 {
		t.Errorf("ends at %v", last)
	}
}

func TestMAX31865Faults(t *testing.T) {
	if err := max31865Fault(0x03); err != nil {
		t.Errorf("no fault: %v", err)
	}
	for bit := 2; bit < 8; bit++ {
		if err := max31865Fault(1 << bit); sensors.ClassOf(err) != sensors.Permanent {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
}
