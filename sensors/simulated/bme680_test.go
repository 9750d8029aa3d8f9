package simulated

import "testing"

// TestBME680Example compares with what Pimoroni publishes with its driver for this calibration.
func TestBME680Example(t *testing.T) {
	fine := b680Fine(501240)
	for _, v := range []struct {
		what      string
		got, want int64
	}{
		{"fine temperature", fine, 136667}, {"temperature", (fine*5 + 128) >> 8, 2669},
		{"pressure", b680Pressure(353485, fine), 98712}, {"humidity", b680Humidity(19019, fine), 42402},
		{"gas", b680Gas(0, 0), 12946860},
	} {
		if v.got != v.want {
			t.Errorf("%s: got %d, want %d", v.what, v.got, v.want)
		}
	}
}
