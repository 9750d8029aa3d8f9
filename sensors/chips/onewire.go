package chips

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// oneWire is a 1-Wire bus behind a DS2482 or DS2483 (data sheet DS2482-100, sections "Registers" and
// "Function commands"; channels: DS2482-800).
type oneWire struct {
	*chip
	channel int // of a DS2482-800, or -1
}

// Commands of the bridge, and of 1-Wire.
const (
	bridgeReset   = 0xF0
	bridgePointer = 0xE1
	bridgeConfig  = 0xD2
	bridgeChannel = 0xC3
	bridge1WReset = 0xB4
	bridge1WOut   = 0xA5
	bridge1WIn    = 0x96
	bridgeTriplet = 0x78

	bridgeDataRegister = 0xE1

	oneWireMatch  = 0x55
	oneWireSearch = 0xF0
)

// Bits of the bridge's status.
const (
	bridgeBusy     = 0x01
	bridgePresence = 0x02
	bridgeShort    = 0x04
	bridgeLevel    = 0x08
	bridgeWasReset = 0x10
	bridgeBit      = 0x20 // SBR: the first bit of a triplet
	bridgeSecond   = 0x40 // TSB
	bridgeTaken    = 0x80 // DIR
)

// bridgeAPU is the configuration: active pull-up. The upper half of the byte is the lower one's complement.
const (
	bridgeAPU = 0xE1
	bridgeSPU = 0xA5 // and a strong pull-up after the next byte
)

var bridgeChannels = [8][2]byte{ // what is written, and what is read back
	{0xF0, 0xB8}, {0xE1, 0xB1}, {0xD2, 0xAA}, {0xC3, 0xA3}, {0xB4, 0x9C}, {0xA5, 0x95}, {0x96, 0x8E}, {0x87, 0x87},
}

// setUp resets the bridge and configures it.
func (o *oneWire) setUp(ctx context.Context) error {
	status, err := o.read(ctx, bridgeReset, 1)
	if err != nil {
		return err
	}
	if status[0]&^bridgeLevel != bridgeWasReset {
		return checkID("DS2482", uint64(status[0]), 8, bridgeWasReset|bridgeLevel)
	}
	if status[0]&bridgeLevel == 0 {
		return errShort
	}
	config, err := o.tx(ctx, []byte{bridgeConfig, bridgeAPU}, 1)
	if err == nil {
		err = checkID("DS2482", uint64(config[0]), 8, bridgeAPU&0xF)
	}
	if err != nil {
		return err
	}
	return o.selects(ctx)
}

var errShort = fmt.Errorf("%w: the 1-Wire line has no pull-up or is shorted to ground: check its wiring", bus.ErrAbsent)

// selects selects the channel: another sensor may have another one.
func (o *oneWire) selects(ctx context.Context) error {
	if o.channel < 0 {
		return nil
	}
	code := bridgeChannels[o.channel]
	b, err := o.tx(ctx, []byte{bridgeChannel, code[0]}, 1)
	if err != nil {
		return fmt.Errorf("channel: only a DS2482-800 has any: %w", err)
	}
	if b[0] != code[1] {
		return fmt.Errorf("%w: channel %d reads back as %#02x, want %#02x: only a DS2482-800 has channels", sensors.ErrPermanent, o.channel, b[0], code[1])
	}
	return nil
}

// idle waits for the end of a command on the line, and returns the status. The longest is a reset, of
// 1.2 ms; a slow bridge has 25 ms.
func (o *oneWire) idle(ctx context.Context) (byte, error) {
	limit, cancel := sensors.WithRunTime(ctx, 25*time.Millisecond, fmt.Errorf("%w: the bridge does not end a command", bus.ErrTemporary))
	defer cancel()
	var status byte
	err := poll(limit, 500*time.Microsecond, func() (bool, error) {
		b, err := o.tx(limit, nil, 1)
		if err != nil {
			return false, err
		}
		status = b[0]
		if status&bridgeWasReset != 0 {
			return false, sensors.ErrRestarted
		}
		return status&bridgeBusy == 0, nil
	})
	return status, err
}

// reset begins a conversation: those who are there say so.
func (o *oneWire) reset(ctx context.Context) error {
	if err := o.write(ctx, bridge1WReset); err != nil {
		return err
	}
	status, err := o.idle(ctx)
	switch {
	case err != nil:
		return err
	case status&bridgeShort != 0:
		return errShort
	case status&bridgePresence == 0:
		return fmt.Errorf("%w: nothing is on the 1-Wire bus: check its wiring", bus.ErrAbsent)
	}
	return nil
}

// out writes bytes to the line.
func (o *oneWire) out(ctx context.Context, b ...byte) error {
	for _, v := range b {
		if err := o.write(ctx, bridge1WOut, v); err != nil {
			return err
		}
		if _, err := o.idle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// in reads a byte from the line.
func (o *oneWire) in(ctx context.Context) (byte, error) {
	if err := o.write(ctx, bridge1WIn); err != nil {
		return 0, err
	}
	if _, err := o.idle(ctx); err != nil {
		return 0, err
	}
	b, err := o.tx(ctx, []byte{bridgePointer, bridgeDataRegister}, 1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// strongPullUp supplies the chips that live on the line after the next byte, until the next command on it.
func (o *oneWire) strongPullUp(ctx context.Context) error {
	return o.write(ctx, bridgeConfig, bridgeSPU)
}

// search finds the numbers of all who are on the line (Maxim application note 187). It ends after 64.
func (o *oneWire) search(ctx context.Context, found func(rom [8]byte)) error {
	var rom [8]byte
	last := -1 // the last bit at which both ways were open and the lower one was taken
	for range 64 {
		if err := o.reset(ctx); err != nil {
			return err
		}
		if err := o.out(ctx, oneWireSearch); err != nil {
			return err
		}
		next := -1
		for bit := range 64 {
			mask := byte(1) << (bit % 8)
			way := byte(0)
			if bit == last || bit < last && rom[bit/8]&mask != 0 {
				way = 0x80
			}
			if err := o.write(ctx, bridgeTriplet, way); err != nil {
				return err
			}
			status, err := o.idle(ctx)
			if err != nil {
				return err
			}
			if status&bridgeBit != 0 && status&bridgeSecond != 0 {
				return fmt.Errorf("%w: a sensor has left the 1-Wire bus during the search", bus.ErrTemporary)
			}
			if status&(bridgeBit|bridgeSecond) == 0 && status&bridgeTaken == 0 {
				next = bit
			}
			rom[bit/8] &^= mask
			if status&bridgeTaken != 0 {
				rom[bit/8] |= mask
			}
		}
		if err := checkSum("the number of a 1-Wire chip", uint32(rom[7]), uint32(crcMaxim(rom[:7]))); err != nil {
			return err
		}
		found(rom)
		if last = next; last < 0 {
			return nil
		}
	}
	return nil
}
