package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
)

// adapter is an I2C adapter that answers with an error.
type adapter struct {
	err    error
	opened int
	closed int
	txs    int
}

func (a *adapter) I2C(string) (i2c.BusCloser, error)                 { a.opened++; return a, nil }
func (a *adapter) SPI(string) (spi.PortCloser, error)                { return nil, errors.New("none") }
func (a *adapter) UART(string, int) (Serial, error)                  { return nil, errors.New("none") }
func (a *adapter) Input(LineOptions) (Line, error)                   { return nil, errors.New("none") }
func (a *adapter) Output(LineOptions, bool) (Output, error)          { return nil, errors.New("none") }
func (a *adapter) Edges(LineOptions, bool, func(Edge)) (Line, error) { return nil, errors.New("none") }
func (a *adapter) Sysfs() fs.FS                                      { return nil }
func (a *adapter) Tx(uint16, []byte, []byte) error                   { a.txs++; return a.err }
func (a *adapter) SetSpeed(physic.Frequency) error                   { return nil }
func (a *adapter) String() string                                    { return "adapter" }
func (a *adapter) Close() error                                      { a.closed++; return nil }

func TestErrorsKeepTheirMeaning(t *testing.T) {
	for errno, want := range map[syscall.Errno]error{
		syscall.EREMOTEIO: ErrAbsent, syscall.ENXIO: ErrAbsent, syscall.ENODEV: ErrAbsent,
		syscall.EBUSY: ErrBusy, syscall.EACCES: ErrPermission, syscall.EPERM: ErrPermission,
		syscall.ETIMEDOUT: ErrTemporary, syscall.EAGAIN: ErrTemporary, syscall.EIO: ErrTemporary,
	} {
		for _, err := range []error{errno, fmt.Errorf("sysfs-i2c: %v", errno)} { // as periph has it
			a := &adapter{err: err}
			b, _ := NewSet(a).I2C("simulated")
			c := b.Conn()
			c.Begin(context.Background())
			driver := fmt.Errorf("bme280: %v", c.Tx(0x76, []byte{1}, nil))
			got := c.Cause(driver)
			if !errors.Is(got, want) || !strings.Contains(got.Error(), "simulated, address 0x76") {
				t.Errorf("%v: got %v, want %v", err, got, want)
			}
			for _, m := range meanings {
				if m.is != want && errors.Is(got, m.is) {
					t.Errorf("%v: got %v, which is also %v", err, got, m.is)
				}
			}
		}
	}
	if err := errors.New("something else"); classify(err) != err {
		t.Error("an unknown error was given a meaning")
	}
}

func TestConnEndsWithItsContext(t *testing.T) {
	a := &adapter{}
	b, _ := NewSet(a).I2C("simulated")
	c := b.Conn()
	if err := c.Tx(1, nil, nil); err == nil || a.txs != 0 {
		t.Errorf("before Begin: %v", err)
	}
	reason := errors.New("no answer within 2s")
	ctx, cancel := context.WithCancelCause(context.Background())
	c.Begin(ctx)
	if err := c.Tx(1, nil, nil); err != nil || a.txs != 1 {
		t.Errorf("got %v", err)
	}
	own := errors.New("driver's own")
	if got := c.Cause(own); got != own {
		t.Errorf("got %v, want the driver's error where no transfer failed", got)
	}
	cancel(reason)
	if err := c.Tx(1, nil, nil); err != reason || a.txs != 1 {
		t.Errorf("got %v", err)
	}
	if c.Cause(nil) != nil {
		t.Error("a cause without an error")
	}
}

func TestABusIsOpenedOnceAndAgainWhenItsAdapterIsGone(t *testing.T) {
	a := &adapter{}
	s := NewSet(a)
	one, _ := s.I2C("simulated")
	two, _ := s.I2C("simulated")
	if one != two || a.opened != 1 {
		t.Errorf("opened %d times", a.opened)
	}
	a.err = syscall.ENODEV
	c := one.Conn()
	c.Begin(context.Background())
	c.Tx(1, nil, nil)
	three, _ := s.I2C("simulated")
	if three == one || a.opened != 2 || a.closed != 1 {
		t.Errorf("opened %d times, closed %d", a.opened, a.closed)
	}
	if err := s.Close(); err != nil || a.closed != 2 {
		t.Errorf("close: %v, closed %d", err, a.closed)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := NewSet(nil)
	if _, err := s.I2C("i2c-999"); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "raspi-config") {
		t.Errorf("i2c: %v", err)
	}
	if _, err := s.I2C("can0"); err == nil {
		t.Error("can0 is no I2C bus")
	}
	if _, err := s.I2C("simulated"); err == nil {
		t.Error("nothing is simulated")
	}
	if _, err := s.Input("", LineOptions{Chip: "no such label"}); !errors.Is(err, ErrAbsent) {
		t.Errorf("gpio: %v", err)
	}
}
