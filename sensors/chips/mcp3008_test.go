package chips

import "testing"

func TestMCP3008Answer(t *testing.T) {
	// 0x2A5 is 10 1010 0101; bits 1 to 9 after it are 0 1001 0101, and then zeros.
	if got, err := mcp3008Count([5]byte{0xFF, 0xF8 | 2, 0xA5, 0b01001010, 0b10000000}); err != nil || got != 0x2A5 {
		t.Errorf("got %#x, %v, want 0x2a5", got, err)
	}
	for _, b := range [][5]byte{
		{0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, {0, 2, 0xA5, 0b01001010, 0}, {0, 2, 0xA5, 0b01001010, 0b10000001}, {0, 2, 0xA4, 0b01001010, 0b10000000 ^ 0x40},
	} {
		if got, err := mcp3008Count(b); err == nil {
			t.Errorf("%x: got %#x", b, got)
		}
	}
	if got := mcp3008Command(true, 5); got[0] != 1 || got[1] != 0xD0 || len(got) != 5 {
		t.Errorf("channel 5: got %x (data sheet, table 5-2: 1101)", got)
	}
	if got := mcp3008Command(false, 3); got[1] != 0x30 {
		t.Errorf("IN3 against IN2: got %x (data sheet, table 5-2: 0011)", got)
	}
}

func FuzzMCP3008(f *testing.F) {
	f.Add([]byte{0xFF, 2, 0xA5, 0x4A, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 5 {
			return
		}
		if v, err := mcp3008Count([5]byte(b)); err == nil && v > 1023 {
			t.Errorf("got %d", v)
		}
	})
}
