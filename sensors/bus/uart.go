package bus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// UART is one sensor's serial port, 8 bits, no parity, one stop bit. It is for one goroutine at a time.
// Transfers fail until Begin.
type UART struct {
	link
	port  Serial
	heard bool // a byte came since Begin
	trace func(Transfer)
}

// UART opens a serial port by its path, such as /dev/serial0. Close it with the sensor.
func (s *Set) UART(name string, baud int) (*UART, error) {
	port, err := s.openUART(name, baud)
	if err != nil {
		return nil, err
	}
	return &UART{link: newLink(name), port: port, trace: s.Trace}, nil
}

func (s *Set) openUART(name string, baud int) (Serial, error) {
	if sim, err := s.simulates(name); sim != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return sim.UART(name, baud)
	}
	return openTTY(name, baud)
}

// Begin allows transfers until ctx ends.
func (u *UART) Begin(ctx context.Context) {
	u.link.Begin(ctx)
	u.heard = false
}

// Read waits until at least a byte is there, or the time is over: ErrAbsent if nothing has come since
// Begin.
func (u *UART) Read(p []byte) (n int, err error) {
	err = u.do(func(ctx context.Context) error {
		n, err = u.port.Read(ctx, p)
		if u.trace != nil && n > 0 {
			u.trace(Transfer{Bus: u.name, R: p[:n], Err: err})
		}
		u.heard = u.heard || n > 0
		switch {
		case err != nil && context.Cause(ctx) != nil && !u.heard:
			return fmt.Errorf("%s: %w: nothing is received: check wiring, and that the console does not use the port: %w", u.name, ErrAbsent, context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("%s: %w", u.name, classify(err))
		}
		return nil
	})
	return n, err
}

// Write sends p.
func (u *UART) Write(p []byte) (n int, err error) {
	err = u.do(func(context.Context) error {
		n, err = u.port.Write(p)
		if u.trace != nil {
			u.trace(Transfer{Bus: u.name, W: p, Err: err})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", u.name, classify(err))
		}
		return nil
	})
	return n, err
}

// Flush forgets what was received and not read, so that what is read next is of now.
func (u *UART) Flush() error { return u.do(func(context.Context) error { return u.port.Flush() }) }

// Close gives the port back.
func (u *UART) Close() error { return u.port.Close() }

// tty is a serial port of the kernel (termios(3)).
type tty struct{ *os.File }

var bauds = map[int]uint32{
	1200: unix.B1200, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600, 19200: unix.B19200,
	38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200, 230400: unix.B230400,
}

func openTTY(name string, baud int) (Serial, error) {
	speed, ok := bauds[baud]
	if !ok {
		return nil, fmt.Errorf("bus: no serial speed of %d baud", baud)
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, classify(err))
	}
	t := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | speed, Ispeed: speed, Ospeed: speed}
	t.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: is no serial port: %w", name, err)
	}
	return &tty{os.NewFile(uintptr(fd), name)}, nil
}

func (t *tty) Read(ctx context.Context, p []byte) (int, error) {
	t.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { t.SetReadDeadline(time.Unix(1, 0)) })
	n, err := t.File.Read(p)
	if !stop() && errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return n, err
}

func (t *tty) Flush() error {
	c, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) { failed = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH) })
	return errors.Join(err, failed)
}
