package chips

import (
	"fmt"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// checkID compares an identification register. A chip that is missing on SPI, where nothing
// acknowledges, reads as all ones or all zeros.
func checkID(chip string, got uint64, bits int, want ...uint64) error {
	for _, w := range want {
		if got == w {
			return nil
		}
	}
	if got == 0 || got == 1<<bits-1 {
		return fmt.Errorf("%w: the identification reads %#0*x: no %s is connected: check wiring", bus.ErrAbsent, bits/4+2, got, chip)
	}
	return fmt.Errorf("%w: the identification is %#0*x, want %#0*x: this is no %s", sensors.ErrPermanent, bits/4+2, got, bits/4+2, want[0], chip)
}

// checkSum compares a checksum that came with data.
func checkSum(what string, got, want uint32) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%w: checksum of %s is %#x, want %#x", bus.ErrTemporary, what, got, want)
}

// settings are registers that a driver has set and that the chip loses with its power. A driver that
// sets up its chip once keeps them and has them compared before it believes a reading: no transfer
// fails when a chip was without power between two readings.
type settings []setting

// setting is one register of 8 bits, and what its bits of Mask have to be.
type setting struct{ Register, Value, Mask byte }

// check reads the registers back with tx and returns ErrRestarted if one has changed.
func (s settings) check(tx func(w, r []byte) error) error {
	var v [1]byte
	for _, r := range s {
		if err := tx([]byte{r.Register}, v[:]); err != nil {
			return err
		}
		if (v[0]^r.Value)&r.Mask != 0 {
			return sensors.ErrRestarted
		}
	}
	return nil
}
