package chips

import (
	"bytes"
	"encoding/csv"
	"os"
	"strconv"
	"testing"
)

// TestSGP40Command uses the data sheet's example: 50 % and 25 °C.
func TestSGP40Command(t *testing.T) {
	want := []byte{0x26, 0x0F, 0x80, 0x00, 0xA2, 0x66, 0x66, 0x93}
	if got := sgp40Command(25, 50); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	if got := sgp40Command(200, -5); got[2] != 0 || got[5] != 0xFF || got[6] != 0xFF {
		t.Errorf("beyond the range: got % x", got)
	}
}

// TestSensirionConversion uses the ends of the scales (data sheets, "Conversion of signal output").
func TestSensirionConversion(t *testing.T) {
	for _, v := range []struct {
		t, rh     uint16
		low, span float64
		wantT     float64
		wantRH    float64
	}{
		{0, 0, 0, 100, -45, 0}, {0xFFFF, 0xFFFF, 0, 100, 130, 100}, {0, 0, -6, 125, -45, 0}, {0xFFFF, 0xFFFF, -6, 125, 130, 100},
		{26214, 32768, 0, 100, 25, 50.0008}, {26214, 29360, -6, 125, 25, 50.0006},
	} {
		m := airSensirion([]uint16{v.t, v.rh}, v.low, v.span)
		if d := m[0].Value - v.wantT; d > 1e-4 || d < -1e-4 {
			t.Errorf("%+v: got %v", v, m[0])
		}
		if d := m[1].Value - v.wantRH; d > 1e-3 || d < -1e-3 {
			t.Errorf("%+v: got %v", v, m[1])
		}
	}
}

// TestVOCIndex replays the signal that Sensirion publishes with its algorithm
// (gas-index-algorithm, python-wrapper/tests/data/voc.csv, the first 4 minutes): raw signal and index, every second.
func TestVOCIndex(t *testing.T) {
	f, err := os.Open("testdata/voc.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) != 239 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	v := newVOCIndex(1)
	for i, row := range rows {
		raw, _ := strconv.Atoi(row[0])
		want, _ := strconv.Atoi(row[1])
		// Theirs is in fixed point, so a value may be rounded the other way.
		if got := v.next(uint16(raw)); got-want > 1 || want-got > 1 || (got == 0) != (want == 0) {
			t.Fatalf("row %d: got %d, want %d", i, got, want)
		}
	}
}

// TestVOCIndexFollowsTheAir shows the scale: usual air is 100, an event is far above and its end is seen.
func TestVOCIndexFollowsTheAir(t *testing.T) {
	v := newVOCIndex(1)
	run := func(raw uint16, seconds int) (last int) {
		for range seconds {
			last = v.next(raw)
		}
		return last
	}
	if got := run(30000, 4*3600); got < 95 || got > 105 {
		t.Errorf("usual air: got %d, want 100", got)
	}
	if got := run(27000, 120); got < 300 {
		t.Errorf("solvent: got %d, want above 300", got)
	}
	if got := run(30000, 3600); got < 50 || got > 150 {
		t.Errorf("after it: got %d, want about 100", got)
	}
	if got := run(34000, 600); got > 80 || got < 1 {
		t.Errorf("cleaner air: got %d, want below 80", got)
	}
	for _, raw := range []uint16{0, 1, 65535, 20000, 52767} {
		if got := run(raw, 100); got < 1 || got > 500 {
			t.Errorf("raw signal %d: got %d", raw, got)
		}
	}
}
