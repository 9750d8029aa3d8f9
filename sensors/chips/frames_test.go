package chips

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"

	"holdfast/sensors"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The control protocol's examples: an answer to a query, commands, and the answer to a command.
var sds011Examples = []string{"aac0d4043a0aa1601dab", "aac506010000a16008ab"}

func TestSDS011Examples(t *testing.T) {
	frame, rest, bad := scanSDS011(unhex(t, sds011Examples[0]))
	if len(frame) != 10 || len(rest) != 0 || bad != nil {
		t.Fatalf("got % x, % x, %v", frame, rest, bad)
	}
	m, ok := decodeSDS011(frame)
	if !ok || m[0].Value != 123.6 || m[1].Value != 261.8 {
		t.Errorf("got %v, want 123.6 and 261.8 µg/m³", m)
	}
	if frame, _, bad = scanSDS011(unhex(t, sds011Examples[1])); len(frame) != 10 || bad != nil {
		t.Errorf("the answer to a command: got % x, %v", frame, bad)
	}
	if _, ok := decodeSDS011(frame); ok {
		t.Error("an answer to a command is no measurement")
	}
	for want, data := range map[string][]byte{
		"aab404000000000000000000000000ffff02ab": {4},
		"aab406010000000000000000000000ffff05ab": {6, 1, 0},
		"aab406010100000000000000000000ffff06ab": {6, 1, 1},
	} {
		if got := hex.EncodeToString(sds011Command(data...)); got != want {
			t.Errorf("command % x: got %s, want %s", data, got, want)
		}
	}
}

// pms5003Frame has masses 1 to 6, and counts 7 to 12.
const pms5003Frame = "424d001c000100020003000400050006000700080009000a000b000c9700" + "0190"

func TestPMS5003(t *testing.T) {
	b := unhex(t, pms5003Frame)
	for factory, want := range map[bool][]float64{false: {4, 5, 6, 70, 80, 90, 100, 110, 120}, true: {1, 2, 3, 70, 80, 90, 100, 110, 120}} {
		frame, rest, bad := scanPMS5003(b)
		m, ok := decodePMS5003(frame, factory)
		if bad != nil || len(rest) != 0 || !ok || len(m) != len(want) {
			t.Fatalf("got %v, %v, rest % x", m, bad, rest)
		}
		for i := range want {
			if m[i].Value != want[i] {
				t.Errorf("%+v, want %v", m[i], want[i])
			}
		}
	}
	// The manual's commands, appendix II.
	for want, got := range map[string][]byte{"424de100000170": pms5003Command(0xE1, 0), "424de400000173": pms5003Command(0xE4, 0), "424de400010174": pms5003Command(0xE4, 1)} {
		if hex.EncodeToString(got) != want {
			t.Errorf("got % x, want %s", got, want)
		}
	}
	if frame, _, bad := scanPMS5003(unhex(t, "424d0004e1000174")); len(frame) != 8 || bad != nil {
		t.Errorf("the answer to a command: got % x, %v", frame, bad)
	}
}

// TestFramesAreFoundAgain cuts, repeats and disturbs a stream at every place.
func TestFramesAreFoundAgain(t *testing.T) {
	for name, c := range map[string]struct {
		scan  scanner
		frame []byte
	}{"pms5003": {scanPMS5003, unhex(t, pms5003Frame)}, "sds011": {scanSDS011, unhex(t, sds011Examples[0])}} {
		for i := range c.frame {
			disturbed := bytes.Clone(c.frame)
			disturbed[i] ^= 0x24
			for _, before := range [][]byte{c.frame[i:], disturbed, c.frame[:i], bytes.Repeat(c.frame[:2], i)} {
				stream := bytes.Join([][]byte{before, c.frame, c.frame}, nil)
				found := 0
				var buf []byte
				for len(stream) > 0 { // as it comes: byte by byte
					buf, stream = append(buf, stream[0]), stream[1:]
					for {
						frame, rest, bad := c.scan(buf)
						buf = rest
						if bytes.Equal(frame, c.frame) {
							found++
						} else if frame != nil {
							t.Fatalf("%s: got % x", name, frame)
						}
						if frame == nil && bad == nil {
							break
						}
					}
					if len(buf) > 32 {
						t.Fatalf("%s keeps %d bytes", name, len(buf))
					}
				}
				if want := 2; found < want {
					t.Errorf("%s: after % x: %d frames, want %d", name, before, found, want)
				}
			}
		}
	}
}

// fuzzScanner shows that no bytes make a scanner fail, go on for ever, or keep more than a frame.
func fuzzScanner(f *testing.F, scan scanner, most int, decode func([]byte) ([]sensors.Measurement, bool)) {
	f.Add(bytes.Repeat([]byte{0x42, 0x4D, 0, 28, 0xAA, 0xC0}, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			frame, rest, bad := scan(b)
			if len(rest) >= len(b) && (frame != nil || bad != nil) || frame == nil && bad == nil && len(rest) > most {
				t.Fatalf("% x: frame % x, rest % x, %v", b, frame, rest, bad)
			}
			if frame == nil && bad == nil {
				return
			}
			if frame != nil {
				m, _ := decode(frame)
				for _, v := range m {
					if math.IsNaN(v.Value) || v.Value < 0 {
						t.Errorf("got %v", v)
					}
				}
			}
			b = rest
		}
	})
}

func FuzzPMS5003(f *testing.F) {
	f.Add(unhex(f, pms5003Frame))
	fuzzScanner(f, scanPMS5003, 32, func(b []byte) ([]sensors.Measurement, bool) { return decodePMS5003(b, false) })
}

func FuzzSDS011(f *testing.F) {
	f.Add(unhex(f, sds011Examples[0]+sds011Examples[1]))
	fuzzScanner(f, scanSDS011, 10, decodeSDS011)
}
