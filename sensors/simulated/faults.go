package simulated

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Faults are what is wrong with a chip: any of them together.
type Faults uint

// The faults. Every chip can have all of them, but for those that its model does not list.
const (
	NACK       Faults = 1 << iota // refuses its address, as in reset; all ones on SPI; silent on a serial port
	Unplugged                     // the same, and its registers are lost
	PowerCycle                    // power is away for a moment: only its registers are lost
	Hang                          // a transfer does not end while the fault lasts, and holds the bus
	StuckBusy                     // a measurement never ends
	WrongID                       // another chip's identification
	BadCRC                        // checksums do not match their data
	SlowClock                     // the chip's oscillator is as slow as its data sheet allows
)

// anyChip are the faults that need nothing of a model.
const anyChip = NACK | Unplugged | PowerCycle | Hang | SlowClock

var faultNames = []string{"nack", "unplugged", "power-cycle", "hang", "stuck-busy", "wrong-id", "bad-crc", "slow-clock"}

func (f Faults) String() string {
	s := ""
	for i, name := range faultNames {
		if f&(1<<i) != 0 {
			s += "+" + name
		}
	}
	if s == "" {
		return "none"
	}
	return s[1:]
}

// Window is a time in which a chip has faults.
type Window struct {
	From, Until time.Time
	Faults      Faults
}

// RandomWindows returns faults in about a share (0 to 1) of the time between from and until, each as long
// as each, chosen by the seed alone.
func RandomWindows(seed uint64, from, until time.Time, each time.Duration, share float64, kinds ...Faults) []Window {
	var w []Window
	random := rand.New(rand.NewPCG(seed, 1))
	for at := from; at.Before(until); at = at.Add(each) {
		if random.Float64() < share {
			w = append(w, Window{at, at.Add(each), kinds[random.IntN(len(kinds))]})
		}
	}
	return w
}

// window is one of a chip's schedule, and how far it has been followed.
type window struct {
	Window
	begun bool // a power loss at its beginning was seen to
}

// Schedule gives the chip faults by the clock, beside those of Fault. It replaces the schedule before.
func (c *Chip) Schedule(windows ...Window) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.windows = nil
	for _, w := range windows {
		c.windows = append(c.windows, window{Window: w})
	}
	slices.SortStableFunc(c.windows, func(a, b window) int { return cmp.Compare(a.From.UnixNano(), b.From.UnixNano()) })
	c.wake()
}

// Fault sets the chip's faults from now on, in place of those that it had; 0 is none. PowerCycle and
// the return from Unplugged have the chip start as after power-on.
func (c *Chip) Fault(f Faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f&PowerCycle != 0 || c.set&Unplugged != 0 && f&Unplugged == 0 {
		c.powerOn(time.Now())
	}
	c.set = f &^ PowerCycle
	c.wake()
}

// wake makes calls that wait for the end of a fault check again. Called with mu held.
func (c *Chip) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// now returns the faults of this moment, and when the next scheduled one begins or ends (zero: never).
// Windows that have passed since the last call leave their traces. Called with mu held.
func (c *Chip) now() (f Faults, next time.Time) {
	t := time.Now()
	f = c.set
	sooner := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	left := c.windows[:0]
	for _, w := range c.windows {
		loses := w.Faults&(Unplugged|PowerCycle) != 0
		switch {
		case t.Before(w.From):
			sooner(w.From)
		case t.Before(w.Until):
			if !w.begun && loses {
				c.powerOn(w.From)
			}
			w.begun = true
			f |= w.Faults &^ PowerCycle
			sooner(w.Until)
		default:
			if loses && (w.Faults&Unplugged != 0 || !w.begun) {
				c.powerOn(w.Until)
			}
			continue
		}
		left = append(left, w)
	}
	c.windows = left
	return f, next
}
