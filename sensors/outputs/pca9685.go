package outputs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// Registers (NXP PCA9685 data sheet, rev. 4, table 4), and bits of MODE1 (table 5).
const (
	pcaMode1    = 0x00
	pcaLED0     = 0x06 // ON_L, ON_H, OFF_L, OFF_H; four for each channel
	pcaPrescale = 0xFE

	pcaRestart = 0x80
	pcaAuto    = 0x20 // register addresses count up
	pcaSleep   = 0x10 // the oscillator is off: no pulses

	pcaFull  = 0x10 // of ON_H: always on; of OFF_H: always off (table 7)
	pcaClock = 25e6
	pcaSteps = 4096
)

// pcaAddresses: A0 to A5; 0x70 is the chip's all-call address (section 7.1).
var pcaAddresses = func() (a []uint16) {
	for n := uint16(0x40); n < 0x78; n++ {
		if n != 0x70 {
			a = append(a, n)
		}
	}
	return a
}()

var pcaChannelOption = sensors.Option{Name: "channel", Kind: sensors.OptionInt, Required: true, Min: 0, Max: 15, Doc: "LED output of the chip"}

// pca9685 is one channel of an NXP PCA9685.
func pca9685() Driver {
	return Driver{
		Spec: sensors.Spec{
			Name: "pca9685", Doc: "NXP PCA9685, one of its 16 PWM channels with 12 bits: a dimmer, a valve, a fan",
			Buses: []sensors.BusKind{sensors.BusI2C}, Addresses: pcaAddresses, Options: []sensors.Option{
				pcaChannelOption,
				{Name: "frequency", Kind: sensors.OptionFloat, Default: 200.0, Min: 24, Max: 1526, Doc: "in Hz, of all channels of the chip"},
				{Name: "active_low", Kind: sensors.OptionBool, Default: false, Doc: "whether a low level is on"},
			},
			Claims: func(p sensors.Place) ([]sensors.Claim, error) {
				return pcaClaims(p, p.Options["frequency"].(float64)), nil
			},
			Timeout: time.Second,
		},
		Model:  "pca9685",
		Levels: true, Tolerance: 1.0 / pcaSteps,
		Open: func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
			frequency := c.Options["frequency"].(float64)
			period := time.Duration(float64(time.Second) / frequency)
			s := &share{period: period, activeLow: c.Options["active_low"].(bool)}
			var err error
			s.channel, err = openPCA9685(ctx, c, buses, frequency, shareWidth(value, period, s.activeLow))
			if err != nil {
				return nil, err
			}
			return s, nil
		},
	}
}

// pca9685Servo is a servo at a channel of a PCA9685.
func pca9685Servo() Driver {
	return Driver{
		Spec: sensors.Spec{
			Name: "pca9685-servo", Doc: "a servo at a channel of an NXP PCA9685; its value is an angle in degrees",
			Buses: []sensors.BusKind{sensors.BusI2C}, Addresses: pcaAddresses, Options: servoOptions(pcaChannelOption),
			Claims:  func(p sensors.Place) ([]sensors.Claim, error) { return pcaClaims(p, servoFrequency), nil },
			Timeout: time.Second,
		},
		Model:    "pca9685",
		Position: true, Range: servoRange, Validate: servoPulses, Tolerance: 2,
		Open: func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
			p := newPosition(c)
			var err error
			if p.channel, err = openPCA9685(ctx, c, buses, servoFrequency, p.widthAt(value)); err != nil {
				return nil, err
			}
			return &p, nil
		},
	}
}

const servoFrequency = float64(time.Second) / float64(servoPeriod)

// pcaClaims are a channel for itself, and the frequency that all channels of the chip have.
func pcaClaims(p sensors.Place, frequency float64) []sensors.Claim {
	return []sensors.Claim{
		{What: fmt.Sprintf("channel %v of the PCA9685 on %s", p.Options["channel"], p.On()), Option: "channel"},
		{What: "the frequency of the PCA9685 on " + p.On(), Value: fmt.Sprintf("%g Hz", frequency), Option: "frequency"},
	}
}

type pcaChannel struct {
	conn   *bus.Conn
	lock   sync.Locker // of the chip: held while its frequency changes, against other looks and moves
	addr   uint16
	first  byte // register
	period time.Duration
}

// pcaWake is how long the oscillator needs (section 7.3.1.1).
const pcaWake = 500 * time.Microsecond

// openPCA9685 sets the chip up for a frequency, and the channel to a width. A chip that runs keeps its other channels as they
// are. If it runs at another frequency, all of them stop for about a millisecond: it can be changed only while the chip sleeps
// (section 7.3.5).
func openPCA9685(ctx context.Context, c Config, buses *bus.Set, frequency float64, width time.Duration) (*pcaChannel, error) {
	b, err := buses.I2C(c.Bus)
	if err != nil {
		return nil, err
	}
	p := &pcaChannel{
		conn: b.Conn(), lock: b.ChipLock(c.Address), addr: c.Address,
		first:  pcaLED0 + 4*byte(c.Options["channel"].(int64)),
		period: time.Duration(float64(time.Second) / frequency),
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	p.conn.Begin(ctx)
	// Section 7.3.5, equation 1.
	prescale := byte(math.Round(pcaClock/(pcaSteps*frequency)) - 1)
	var mode, now [1]byte
	if err := p.conn.Tx(p.addr, []byte{pcaMode1}, mode[:]); err != nil {
		return nil, err
	}
	if err := p.conn.Tx(p.addr, []byte{pcaPrescale}, now[:]); err != nil {
		return nil, err
	}
	// The mode without its restart bit: written as 1, it would bring back the pulses of before (section
	// 7.3.1.1).
	asleep, on := mode[0]&^pcaRestart|pcaAuto|pcaSleep, mode[0]&^(pcaRestart|pcaSleep)|pcaAuto
	switch awake := mode[0]&pcaSleep == 0; {
	case awake && now[0] == prescale:
		if err := p.write(pcaMode1, on); err != nil {
			return nil, err
		}
		return p, p.put(width)
	case awake:
		if err := p.change(ctx, asleep, on, prescale); err != nil {
			return nil, err
		}
		return p, p.put(width)
	}
	// The width comes before the oscillator, so that no other one is seen.
	if err := errors.Join(p.write(pcaPrescale, prescale), p.write(pcaMode1, asleep)); err != nil {
		return nil, err
	}
	if err := p.put(width); err != nil {
		return nil, err
	}
	return p, p.write(pcaMode1, on)
}

// change brings a chip that runs to another frequency, and its channels back (section 7.3.1.1, "Restart mode"). Each of them
// has the share of the period that it had.
func (p *pcaChannel) change(ctx context.Context, asleep, on, prescale byte) error {
	err := errors.Join(p.write(pcaMode1, asleep), p.write(pcaPrescale, prescale), p.write(pcaMode1, on))
	if err != nil {
		return err
	}
	select {
	case <-time.After(pcaWake):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return p.write(pcaMode1, on|pcaRestart)
}

func (p *pcaChannel) write(register, v byte) error {
	return p.conn.Tx(p.addr, []byte{register, v}, nil)
}

func (p *pcaChannel) setWidth(ctx context.Context, width time.Duration) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.conn.Begin(ctx)
	return p.put(width)
}

// put writes the width. It is called with the lock held.
func (p *pcaChannel) put(width time.Duration) error {
	off := int(math.Round(float64(width) / float64(p.period) * pcaSteps))
	b := []byte{p.first, 0, 0, byte(off), byte(off >> 8)}
	switch {
	case off <= 0:
		b[4] = pcaFull
	case off >= pcaSteps:
		b[2], b[3], b[4] = pcaFull, 0, 0
	}
	return p.conn.Tx(p.addr, b, nil)
}

func (p *pcaChannel) width(ctx context.Context) (time.Duration, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.conn.Begin(ctx)
	var mode [1]byte
	if err := p.conn.Tx(p.addr, []byte{pcaMode1}, mode[:]); err != nil {
		return 0, err
	}
	if mode[0]&pcaSleep != 0 {
		return 0, errors.New("the chip sleeps: its power was interrupted")
	}
	var b [4]byte
	if err := p.conn.Tx(p.addr, []byte{p.first}, b[:]); err != nil {
		return 0, err
	}
	steps := int(b[2]) | int(b[3]&0xF)<<8
	switch {
	case b[3]&pcaFull != 0:
		steps = 0
	case b[1]&pcaFull != 0:
		steps = pcaSteps
	}
	return time.Duration(float64(steps) / pcaSteps * float64(p.period)), nil
}

// Close leaves the channel as it is.
func (p *pcaChannel) Close() error { return nil }
