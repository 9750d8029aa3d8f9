package sensors

import (
	"errors"
	"fmt"

	"holdfast/sensors/bus"
)

// What a failed reading means. A driver's error wraps one of these, or one of package bus, where one
// fits; Class tells which. All of them are tried again: a permanent one is simply not expected to end
// without a person's help.
var (
	// ErrPermanent is something that needs a person: the wrong chip, a range that is too small.
	ErrPermanent = errors.New("needs attention")
	// ErrImplausible is a value that cannot be true.
	ErrImplausible = errors.New("implausible")
	// ErrRestarted means that the chip has lost its settings with its power and has to be set up anew.
	// Supervision does that at once, within the same reading, if the deadline allows.
	ErrRestarted = fmt.Errorf("%w: the chip has lost its settings: its power was interrupted", bus.ErrTemporary)
)

// Unreadable is the error for input that a sensor cannot use: an unreadable message, a frame with a wrong checksum, a
// silent sender. It is a failure, but the device is as it was: supervision keeps it open, and calls it again at the
// next slot.
type Unreadable struct {
	Err  error
	More uint64 // failures of the same call beside Err
}

func (e *Unreadable) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Unreadable) Unwrap() error { return e.Err }

func unreadable(err error) bool {
	var e *Unreadable
	return errors.As(err, &e)
}

// more returns the failures beside that of err.
func more(err error) uint64 {
	var e *Unreadable
	if errors.As(err, &e) {
		return e.More
	}
	return 0
}

// Class is one of the four kinds of failure.
type Class string

// The classes of errors.
const (
	Absent      Class = "absent"      // nothing answers
	Temporary   Class = "temporary"   // disturbed, late, a wrong checksum
	Permanent   Class = "permanent"   // needs a person: permission, a kernel driver, a wrong chip
	Implausible Class = "implausible" // it answers, but that cannot be
)

// ClassOf returns the class of a driver's error, Temporary for an error without one.
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

// OutOfRange is the error for a value that cannot be true.
func OutOfRange(quantity string, value float64, unit string, low, high float64) error {
	return fmt.Errorf("%w: %s is %.6g %s, want %g to %g", ErrImplausible, quantity, value, unit, low, high)
}
