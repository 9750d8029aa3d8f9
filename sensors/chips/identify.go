package chips

import (
	"fmt"
	"time"

	"periph.io/x/conn/v3"
)

// identifySensirion recognises a Sensirion chip by a command that only reads, and that others refuse or
// answer without the right checksums: n words with a CRC each.
func identifySensirion(chip string, n int, wait time.Duration, command ...byte) func(conn.Conn) (string, error) {
	return func(dev conn.Conn) (string, error) {
		if err := dev.Tx(command, nil); err != nil {
			return "", err
		}
		time.Sleep(wait)
		b := make([]byte, 3*n)
		if err := dev.Tx(nil, b); err != nil {
			return "", err
		}
		if _, err := wordsSensirion(b); err != nil {
			return "", fmt.Errorf("no %s: %w", chip, err)
		}
		return chip, nil
	}
}

// identifyAM2320 reads the measurement, whose checksum identifies the chip. It sleeps and answers nothing to
// the call that wakes it.
func identifyAM2320(dev conn.Conn) (string, error) {
	_ = dev.Tx([]byte{0}, nil)
	time.Sleep(time.Millisecond)
	if err := dev.Tx([]byte{3, 0, 4}, nil); err != nil {
		return "", err
	}
	time.Sleep(2 * time.Millisecond)
	var b [8]byte
	if err := dev.Tx(nil, b[:]); err != nil {
		return "", err
	}
	if _, _, err := decodeAM2320(b); err != nil {
		return "", err
	}
	return "AM2320", nil
}

// identifyHDC302x reads the manufacturer's number (data sheet, section "Manufacturer ID").
func identifyHDC302x(dev conn.Conn) (string, error) {
	if err := dev.Tx([]byte{0x37, 0x81}, nil); err != nil {
		return "", err
	}
	time.Sleep(time.Millisecond)
	var b [3]byte
	if err := dev.Tx(nil, b[:]); err != nil {
		return "", err
	}
	words, err := wordsSensirion(b[:])
	if err != nil || words[0] != 0x3000 {
		return "", err
	}
	return "HDC302x", nil
}
