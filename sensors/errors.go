package sensors

import (
	"errors"
	"fmt"

	"holdfast/sensors/bus"
)

// What a failed reading means. A driver's error wraps one of these, or one of package bus, where one
// fits; Class tells which. All of them are tried again: a permanent one is simply not expected to end
// without somebody's help.
var (
	// ErrPermanent is something that needs a person: the wrong chip, a range that is too small.
	ErrPermanent = errors.New("needs attention")
	// ErrImplausible is a value that cannot be true.
	ErrImplausible = errors.New("implausible")
	// ErrRestarted says that the chip has lost its settings with its power and has to be set up anew.
	// Supervision does that at once, within the same reading, if the deadline allows.
	ErrRestarted = fmt.Errorf("%w: the chip has lost its settings: its power was interrupted", bus.ErrTemporary)
)

// Class is one of the four kinds of failure.
type Class string

// The classes of errors.
const (
	Absent      Class = "absent"      // nothing answers
	Temporary   Class = "temporary"   // disturbed, late, a wrong checksum
	Permanent   Class = "permanent"   // needs somebody: permission, a kernel driver, a wrong chip
	Implausible Class = "implausible" // it answers, but that cannot be
)

// ClassOf tells the class of a driver's error. What says nothing about itself is temporary.
func ClassOf(err error) Class {
	switch {
	case errors.Is(err, ErrImplausible):
		return Implausible
	case errors.Is(err, bus.ErrAbsent):
		return Absent
	case errors.Is(err, ErrPermanent), errors.Is(err, bus.ErrPermission), errors.Is(err, bus.ErrBusy):
		return Permanent
	}
	return Temporary
}

// CheckID compares an identification register. A chip that is missing on SPI, where nothing
// acknowledges, reads as all ones or all zeros.
func CheckID(chip string, got uint64, bits int, want ...uint64) error {
	for _, w := range want {
		if got == w {
			return nil
		}
	}
	if got == 0 || got == 1<<bits-1 {
		return fmt.Errorf("%w: the identification reads %#0*x: no %s is connected: check wiring", bus.ErrAbsent, bits/4+2, got, chip)
	}
	return fmt.Errorf("%w: the identification is %#0*x, want %#0*x: this is no %s", ErrPermanent, bits/4+2, got, bits/4+2, want[0], chip)
}

// CheckSum compares a checksum that came with data.
func CheckSum(what string, got, want uint32) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%w: checksum of %s is %#x, want %#x", bus.ErrTemporary, what, got, want)
}

// OutOfRange is the error for a value that cannot be true.
func OutOfRange(quantity string, value float64, unit string, low, high float64) error {
	return fmt.Errorf("%w: %s is %.6g %s, want %g to %g", ErrImplausible, quantity, value, unit, low, high)
}

// Settings are registers that a driver has set and that the chip loses with its power. A driver that
// sets up its chip once keeps them and has them compared before it believes a reading: no transfer
// fails when a chip was without power between two readings.
type Settings []Setting

// Setting is one register of 8 bits, and what its bits of Mask have to be.
type Setting struct{ Register, Value, Mask byte }

// Check reads the registers back with tx and returns ErrRestarted if one has changed.
func (s Settings) Check(tx func(w, r []byte) error) error {
	var v [1]byte
	for _, r := range s {
		if err := tx([]byte{r.Register}, v[:]); err != nil {
			return err
		}
		if (v[0]^r.Value)&r.Mask != 0 {
			return ErrRestarted
		}
	}
	return nil
}
