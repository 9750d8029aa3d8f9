package bus

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// channel is a channel of a multiplexer: TI TCA9548A and PCA9548A (data sheet SCPS143, section "Control
// register"), or NXP PCA9546A, which has four. Its one register has a bit for each channel that is
// connected; after power-on none is.
type channel struct {
	mux  uint16 // address; 0 for the bus itself
	mask byte
}

// channelOf takes a name such as "i2c-1/0x70/3" apart.
func channelOf(name string) (parent string, c channel, err error) {
	parent, rest, found := strings.Cut(name, "/0x")
	if !found {
		return name, channel{}, nil
	}
	addr, number, _ := strings.Cut(rest, "/")
	a, err1 := strconv.ParseUint(addr, 16, 7)
	n, err2 := strconv.ParseUint(number, 10, 3)
	if err := errors.Join(err1, err2); err != nil || a < 0x70 || a > 0x77 {
		return "", channel{}, fmt.Errorf("bus: %q is no channel of a multiplexer, want one such as i2c-1/0x70/3, with 0x70 to 0x77 and 0 to 7", name)
	}
	return parent, channel{uint16(a), 1 << n}, nil
}

// muxState is which channels of a multiplexer are connected, or that this is unknown.
type muxState int

const muxUnknown muxState = -1

// route connects the one channel that a transfer needs, and no other of any multiplexer: two chips
// with one address must never answer together. Only what has changed since the last transfer is
// written. Called with the lock held.
func (w *wires) route(c channel, addr uint16) error {
	if c.mux != 0 && addr == c.mux {
		return fmt.Errorf("%s: address %#02x is the multiplexer's own", w.name, addr)
	}
	if _, known := w.muxes[c.mux]; c.mux != 0 && !known {
		w.muxes[c.mux] = muxUnknown
	}
	for mux, state := range w.muxes {
		if mux == 0 || mux == c.mux || state == 0 {
			continue
		}
		// One that does not answer connects nothing, and comes back with nothing connected.
		if err := classify(w.transfer(mux, []byte{0}, nil)); err != nil && !errors.Is(err, ErrAbsent) {
			return fmt.Errorf("%s, multiplexer at %#02x: %w", w.name, mux, err)
		}
		w.muxes[mux] = 0
	}
	if c.mux == 0 || w.muxes[c.mux] == muxState(c.mask) {
		return nil
	}
	w.muxes[c.mux] = muxUnknown
	if err := classify(w.transfer(c.mux, []byte{c.mask}, nil)); err != nil {
		return fmt.Errorf("%s, multiplexer at %#02x: %w", w.name, c.mux, err)
	}
	w.muxes[c.mux] = muxState(c.mask)
	return nil
}
