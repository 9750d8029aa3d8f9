package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/sysfs"
)

// SPI is one chip's SPI port, in the shape that periph's drivers want. It is for one sensor, and for
// one goroutine at a time. Transfers fail until Begin.
type SPI struct {
	link
	port  spi.PortCloser
	trace func(Transfer)
}

var _ spi.Port = (*SPI)(nil)

// SPI opens the port of that name: "spi-0.1" is /dev/spidev0.1. Close it with the sensor.
func (s *Set) SPI(name string) (*SPI, error) {
	port, err := s.openSPI(name)
	if err != nil {
		return nil, err
	}
	return &SPI{newLink(name), port, s.Trace}, nil
}

func (s *Set) openSPI(name string) (spi.PortCloser, error) {
	if sim, err := s.simulates(name); sim != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return sim.SPI(name)
	}
	var number, chip int
	if n, err := fmt.Sscanf(name, "spi-%d.%d", &number, &chip); n != 2 || err != nil {
		return nil, fmt.Errorf("bus: %q is no SPI port, want spi-BUS.CHIP", name)
	}
	device := fmt.Sprintf("/dev/spidev%d.%d", number, chip)
	if _, err := os.Stat(device); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist: enable SPI with raspi-config, or choose another port", ErrAbsent, device)
	}
	p, err := sysfs.NewSPI(number, chip)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", device, classify(err))
	}
	return p, nil
}

// Connect sets speed and mode. A port is connected once.
func (p *SPI) Connect(f physic.Frequency, mode spi.Mode, bits int) (spi.Conn, error) {
	c, err := p.port.Connect(f, mode, bits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, classify(err))
	}
	return &spiConn{p, c}, nil
}

// Close gives the port back.
func (p *SPI) Close() error { return p.port.Close() }

// SPIDevice opens a port and connects to its chip with words of 8 bits.
func (s *Set) SPIDevice(name string, f physic.Frequency, mode spi.Mode) (*Device, error) {
	p, err := s.SPI(name)
	if err != nil {
		return nil, err
	}
	c, err := p.Connect(f, mode, 8)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &Device{link: &p.link, duplex: conn.Full, tx: c.Tx, close: p.Close}, nil
}

type spiConn struct {
	port *SPI
	conn spi.Conn
}

func (c *spiConn) String() string      { return c.port.name }
func (c *spiConn) Duplex() conn.Duplex { return c.conn.Duplex() }

func (c *spiConn) Tx(w, r []byte) error {
	return c.port.do(func(context.Context) error {
		err := c.conn.Tx(w, r)
		c.trace(w, r, err)
		return c.meaning(err)
	})
}

func (c *spiConn) TxPackets(p []spi.Packet) error {
	return c.port.do(func(context.Context) error {
		err := c.conn.TxPackets(p)
		for _, one := range p {
			c.trace(one.W, one.R, err)
		}
		return c.meaning(err)
	})
}

func (c *spiConn) trace(w, r []byte, err error) {
	if c.port.trace != nil {
		c.port.trace(Transfer{Bus: c.port.name, W: w, R: r, Err: err})
	}
}

func (c *spiConn) meaning(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", c.port.name, classify(err))
}
