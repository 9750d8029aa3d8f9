package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// What an error of the hardware means. Every error of this package that came from the kernel wraps
// one of them, where that is known.
var (
	ErrAbsent     = errors.New("no answer")            // nothing there: wiring, address, or unplugged
	ErrBusy       = errors.New("in use by the kernel") // a kernel driver has the chip or the line
	ErrPermission = errors.New("not permitted")
	ErrTemporary  = errors.New("disturbed") // a transfer that may succeed the next time
)

// meanings ties the kernel's error numbers to what they mean here (Linux,
// Documentation/i2c/fault-codes.rst).
var meanings = []struct {
	errno syscall.Errno
	is    error
	hint  string
}{
	{syscall.EREMOTEIO, ErrAbsent, "check wiring and address"}, // NACK, from bcm2835
	{syscall.ENXIO, ErrAbsent, "check wiring and address"},     // NACK, from other adapters
	{syscall.ENODEV, ErrAbsent, "the adapter is gone"},
	{syscall.ENOENT, ErrAbsent, ""},
	{syscall.EBUSY, ErrBusy, "a kernel driver has it: remove its dtoverlay from config.txt, or read it through the kernel"},
	{syscall.EACCES, ErrPermission, "add the user to the groups i2c, spi and gpio"},
	{syscall.EROFS, ErrPermission, "the service may only read /sys: see deploy/README.md"},
	{syscall.EPERM, ErrPermission, "add the user to the groups i2c, spi and gpio"},
	{syscall.ETIMEDOUT, ErrTemporary, "the bus is stuck or a chip stretches the clock"},
	{syscall.EAGAIN, ErrTemporary, "arbitration was lost"},
	{syscall.EIO, ErrTemporary, ""},
}

// classify adds its meaning to an error of the kernel. periph puts error numbers into text, so that
// is looked at as well.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, m := range meanings {
		if !errors.Is(err, m.errno) && !textOf(err, m.errno) {
			continue
		}
		if m.hint == "" {
			return fmt.Errorf("%w: %w", m.is, err)
		}
		return fmt.Errorf("%w: %w: %s", m.is, err, m.hint)
	}
	return err
}

func textOf(err error, errno syscall.Errno) bool {
	return strings.HasSuffix(err.Error(), errno.Error())
}

// ReadFile reads a small file of sysfs, without the line's end.
func ReadFile(sys fs.FS, name string) (string, error) {
	b, err := fs.ReadFile(sys, name)
	if err != nil {
		return "", fmt.Errorf("/sys/%s: %w", name, classify(err))
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}
