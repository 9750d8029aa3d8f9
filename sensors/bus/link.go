package bus

import (
	"context"
	"errors"

	"periph.io/x/conn/v3"
)

// link is one sensor's use of a bus: transfers are allowed from Begin until its context ends. It is
// for one goroutine at a time.
type link struct {
	name string
	ctx  context.Context
	err  error // of the last transfer since Begin
}

var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func newLink(name string) link { return link{name: name, ctx: over} }

// Begin allows transfers until ctx ends: a driver that waits for a chip without a limit of its own
// ends with it.
func (l *link) Begin(ctx context.Context) { l.ctx, l.err = ctx, nil }

// Cause is a driver's error, or instead of it the error of the transfer that made the driver give up.
func (l *link) Cause(err error) error {
	if err != nil && l.err != nil {
		return l.err
	}
	return err
}

func (l *link) String() string { return l.name }

// do makes one transfer, if there is time.
func (l *link) do(transfer func(ctx context.Context) error) error {
	err := context.Cause(l.ctx)
	if err == nil {
		err = transfer(l.ctx)
	}
	l.err = err
	return err
}

// Device is one chip on an I2C bus or an SPI port, in the shape of periph's conn.Conn: a transfer that
// writes w and reads r. Begin and Cause are those of the connection below.
type Device struct {
	*link
	duplex conn.Duplex
	tx     func(w, r []byte) error
	close  func() error
}

var _ conn.Conn = (*Device)(nil)

// Tx makes one transfer. On SPI w and r are of the same length, or one of them is empty.
func (d *Device) Tx(w, r []byte) error { return d.tx(w, r) }

// Duplex is conn.Half on I2C and conn.Full on SPI.
func (d *Device) Duplex() conn.Duplex { return d.duplex }

// Close gives an SPI port back; an I2C bus stays open for its other users.
func (d *Device) Close() error {
	if d.close == nil {
		return nil
	}
	return d.close()
}

// I2CDevice returns the chip at an address of an I2C bus.
func (s *Set) I2CDevice(name string, addr uint16) (*Device, error) {
	b, err := s.I2C(name)
	if err != nil {
		return nil, err
	}
	c := b.Conn()
	return &Device{link: &c.link, duplex: conn.Half, tx: func(w, r []byte) error { return c.Tx(addr, w, r) }}, nil
}

// Transfer is one transfer, as Set.Trace receives it.
type Transfer struct {
	Bus     string
	Address uint16 // 0 but on I2C
	W, R    []byte // valid during the call
	Err     error
}

var errNoSimulator = errors.New("bus: nothing is simulated here")
