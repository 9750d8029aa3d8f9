package chips

import (
	"errors"
	"testing"

	"holdfast/sensors/bus"
)

func TestWorkedExamplesOfChecksums(t *testing.T) {
	if got := crcSensirion([]byte{0xBE, 0xEF}); got != 0x92 {
		t.Errorf("got %#02x, want 0x92 (Sensirion SHT4x data sheet, section on checksums)", got)
	}
	if got := crcMaxim([]byte{0x02, 0x1C, 0xB8, 0x01, 0, 0, 0}); got != 0xA2 {
		t.Errorf("got %#02x, want 0xa2 (Maxim application note 27)", got)
	}
}

func TestWordsWithChecksums(t *testing.T) {
	b := appendSensirion(appendSensirion(nil, 0xBEEF), 0x1234)
	words, err := wordsSensirion(b)
	if err != nil || len(words) != 2 || words[0] != 0xBEEF || words[1] != 0x1234 {
		t.Errorf("got %x, %v", words, err)
	}
	for i := range b { // every change of one bit is seen
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := wordsSensirion(b); !errors.Is(err, bus.ErrTemporary) {
				t.Errorf("byte %d, bit %d: got %v", i, bit, err)
			}
			b[i] ^= 1 << bit
		}
	}
}
