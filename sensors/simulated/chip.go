package simulated

import (
	"math"
	"sync"
	"syscall"
	"time"
)

// refused is the error for bytes that a chip does not acknowledge.
const refused = syscall.EREMOTEIO

// Chip is a chip that is connected somewhere, and what is wrong with it. Its exported methods are for
// tests and safe for concurrent use; the others are for models, which are called with the chip locked.
type Chip struct {
	Model *Model
	seed  uint64

	mu      sync.Mutex
	regs    Registers
	values  map[string]float64 // set by hand
	set     Faults
	windows []window
	changed chan struct{}
	faults  Faults // during a transfer
	answers map[byte][]byte
	born    time.Time // when power came
}

func newChip(m *Model, seed uint64) *Chip {
	c := &Chip{Model: m, seed: seed, values: map[string]float64{}, changed: make(chan struct{})}
	c.born = time.Now()
	c.regs = m.New(c)
	c.regs.reset()
	return c
}

// Set holds an input at a value, from the next conversion on. It panics if the chip has no such input.
func (c *Chip) Set(input string, value float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Model.input(input) == nil {
		panic("simulated: " + c.Model.Name + " has no input " + input)
	}
	c.values[input] = value
	if e, ok := c.regs.(interrupting); ok {
		e.signal()
	}
}

// Answer has the chip on I2C answer value when this register is read, whatever it holds: another revision of the chip.
func (c *Chip) Answer(register byte, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil {
		c.answers = map[byte][]byte{}
	}
	c.answers[register] = value
}

// Input returns what an input is now.
func (c *Chip) Input(name string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value(name)
}

// begin waits while the chip hangs, and leaves it locked for a transfer. There is no answer if it is
// absent.
func (c *Chip) begin() (answers bool) {
	c.mu.Lock()
	for {
		f, next := c.now()
		if f&Hang == 0 {
			c.faults = f
			return f&(NACK|Unplugged) == 0
		}
		changed := c.changed
		c.mu.Unlock()
		var end <-chan time.Time
		if !next.IsZero() {
			timer := time.NewTimer(time.Until(next))
			defer timer.Stop()
			end = timer.C
		}
		select {
		case <-changed:
		case <-end:
		}
		c.mu.Lock()
	}
}

func (c *Chip) powerOn(at time.Time) {
	c.born = at
	c.regs.reset()
}

// value is an input's value now.
func (c *Chip) value(input string) float64 {
	if v, ok := c.values[input]; ok {
		return v
	}
	in := c.Model.input(input)
	if in == nil {
		panic("simulated: " + c.Model.Name + " has no input " + input)
	}
	return math.Min(in.Max, math.Max(in.Min, in.at(c.seed, time.Now())))
}

// takes is when something that begins now and lasts d will be done.
func (c *Chip) takes(d time.Duration) time.Time {
	if c.faults&SlowClock != 0 {
		slow := c.Model.Slow
		if slow == 0 {
			slow = 2
		}
		d = time.Duration(float64(d) * slow)
	}
	return time.Now().Add(d)
}

// done reports whether what takes until t is done.
func (c *Chip) done(t time.Time) bool { return c.faults&StuckBusy == 0 && !time.Now().Before(t) }

// id is the byte of an identification register.
func (c *Chip) id(v byte) byte {
	if c.faults&WrongID != 0 {
		return v ^ 0x15
	}
	return v
}

// sum is a checksum, or a byte of one, before it leaves the chip.
func (c *Chip) sum(v byte) byte {
	if c.faults&BadCRC != 0 {
		return v ^ 0x24
	}
	return v
}
