package simulated

import (
	"context"
	"errors"
	"sync"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
)

// byteTime is how long a byte takes on I2C at 100 kHz, with its acknowledgement.
const byteTime = 90 * time.Microsecond

// i2cBus is an I2C bus.
type i2cBus struct {
	pi   *Pi
	name string
}

var _ i2c.BusCloser = (*i2cBus)(nil)

// Tx is a write, a read, or a write and a read with a repeated start.
func (b *i2cBus) Tx(addr uint16, w, r []byte) error {
	c, err := b.pi.reach(b.name, addr)
	time.Sleep(time.Duration(2+len(w)+len(r)) * byteTime)
	switch {
	case err != nil:
		return err
	case c == nil:
		return refused
	}
	answers := c.begin()
	defer c.mu.Unlock()
	regs, ok := c.regs.(i2cChip)
	if !answers || !ok {
		return refused
	}
	if len(w) > 0 {
		if err := regs.write(w); err != nil {
			return err
		}
	}
	if len(r) > 0 {
		err := regs.read(r)
		if len(w) == 1 {
			copy(r, c.answers[w[0]])
		}
		return err
	}
	return nil
}

func (b *i2cBus) SetSpeed(physic.Frequency) error { return nil }
func (b *i2cBus) String() string                  { return b.name }
func (b *i2cBus) Close() error                    { return nil }

// spiPort is an SPI port with its chip select.
type spiPort struct {
	pi    *Pi
	name  string
	speed physic.Frequency
}

var (
	_ spi.PortCloser = (*spiPort)(nil)
	_ spi.Conn       = (*spiPort)(nil)
)

func (p *spiPort) Connect(f physic.Frequency, _ spi.Mode, bits int) (spi.Conn, error) {
	if p.speed != 0 {
		return nil, errors.New("simulated: the port is already connected")
	}
	if bits != 8 {
		return nil, errors.New("simulated: words have 8 bits")
	}
	if p.speed = f; f <= 0 {
		p.speed = physic.MegaHertz
	}
	return p, nil
}

func (p *spiPort) LimitSpeed(physic.Frequency) error { return nil }
func (p *spiPort) String() string                    { return p.name }
func (p *spiPort) Close() error                      { return nil }
func (p *spiPort) Duplex() conn.Duplex               { return conn.Full }

// Tx shifts bytes out and in. What no chip drives reads as ones.
func (p *spiPort) Tx(w, r []byte) error {
	n := max(len(w), len(r))
	if len(w) > 0 && len(r) > 0 && len(w) != len(r) {
		return errors.New("simulated: on SPI as many bytes come as go")
	}
	time.Sleep(time.Duration(n) * 8 * p.speed.Period())
	out, in := make([]byte, n), make([]byte, n)
	copy(out, w)
	for i := range in {
		in[i] = 0xFF
	}
	defer copy(r, in)
	c := p.pi.Chip(p.name, 0)
	if c == nil {
		return nil
	}
	answers := c.begin()
	defer c.mu.Unlock()
	if regs, ok := c.regs.(spiChip); ok && answers {
		regs.transfer(out, in)
	}
	return nil
}

// TxPackets is one transfer while the chip stays selected.
func (p *spiPort) TxPackets(packets []spi.Packet) error {
	var w []byte
	for i, one := range packets {
		b := make([]byte, max(len(one.W), len(one.R)))
		copy(b, one.W)
		w = append(w, b...)
		if one.KeepCS && i < len(packets)-1 {
			continue
		}
		r := make([]byte, len(w))
		if err := p.Tx(w, r); err != nil {
			return err
		}
		for j := i; j >= 0 && (j == i || packets[j].KeepCS); j-- {
			n := max(len(packets[j].W), len(packets[j].R))
			copy(packets[j].R, r[len(r)-n:])
			r = r[:len(r)-n]
		}
		w = nil
	}
	return nil
}

// serial is a serial port.
type serial struct {
	pi       *Pi
	name     string
	byteTime time.Duration

	mu       sync.Mutex
	received []byte
	upTo     time.Time     // what the chip sent by itself until then has been received
	answered chan struct{} // has a token when received has grown
}

// Read waits until at least a byte is there, or ctx ends.
func (s *serial) Read(ctx context.Context, p []byte) (int, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		s.mu.Lock()
		next := s.listen()
		n := copy(p, s.received)
		s.received = s.received[n:]
		s.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if err := s.wait(ctx, next); err != nil {
			return 0, err
		}
	}
}

// wait returns when something may have come.
func (s *serial) wait(ctx context.Context, until time.Time) error {
	var end <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		end = timer.C
	}
	select {
	case <-s.answered:
	case <-end:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// most is how much the kernel keeps of what is not read.
const most = 4095

// listen receives what the chip has sent by itself, and returns when it will send again. Called with
// mu held.
func (s *serial) listen() (next time.Time) {
	c := s.pi.Chip(s.name, 0)
	if c == nil {
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var f Faults
	f, next = c.now()
	c.faults = f
	regs, ok := c.regs.(uartChip)
	if !ok {
		return time.Time{}
	}
	now := time.Now()
	b, every := regs.frame()
	if every <= 0 { // it is silent, and what it says later is of later
		s.upTo = now
		return next
	}
	if s.upTo.Before(c.born) {
		s.upTo = c.born
	}
	// Frames are sent at whole multiples of every after power came.
	due := c.born.Add((s.upTo.Sub(c.born)/every + 1) * every)
	for ; !due.After(now); due = due.Add(every) {
		if f&(NACK|Unplugged|Hang) == 0 && len(s.received)+len(b) <= most {
			s.received = append(s.received, b...)
		}
		s.upTo = due
	}
	if next.IsZero() || due.Before(next) {
		return due
	}
	return next
}

// Write sends p to the chip.
func (s *serial) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * s.byteTime)
	c := s.pi.Chip(s.name, 0)
	if c == nil {
		return len(p), nil
	}
	answers := c.begin()
	regs, ok := c.regs.(uartChip)
	var answer []byte
	if ok && answers {
		answer = regs.receive(p)
	}
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, answer...)
	if len(answer) > 0 {
		select {
		case s.answered <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// Flush forgets what was received and not read.
func (s *serial) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listen()
	s.received = nil
	return nil
}

func (s *serial) Close() error { return nil }
