package sensors

import (
	"context"
	"fmt"
	"math"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/ads1x15"

	"holdfast/sensors/bus"
)

// ads1115Channels are the inputs, single or as differences.
var ads1115Channels = map[string]ads1x15.Channel{
	"0": ads1x15.Channel0, "1": ads1x15.Channel1, "2": ads1x15.Channel2, "3": ads1x15.Channel3,
	"0-1": ads1x15.Channel0Minus1, "0-3": ads1x15.Channel0Minus3,
	"1-3": ads1x15.Channel1Minus3, "2-3": ads1x15.Channel2Minus3,
}

// ads1115 is the Texas Instruments ADS1115, a 16-bit ADC (data sheet SBAS444E).
func ads1115() Driver {
	return Driver{
		Name: "ads1115", Doc: "Texas Instruments ADS1115, 16-bit ADC: one input, or the difference of two",
		Bus: BusI2C, Addresses: []uint16{0x48, 0x49, 0x4A, 0x4B},
		Quantities: []Quantity{{"voltage", "V"}},
		Options: []Option{
			{Name: "channel", Kind: OptionString, Default: "0", Doc: "input, or the difference of two",
				Allowed: []string{"0", "1", "2", "3", "0-1", "0-3", "1-3", "2-3"}},
			{Name: "range", Kind: OptionFloat, Default: 4.096, Min: 0.256, Max: 6.144,
				Doc: "largest voltage to be measured, in V; the chip's next larger range is used"},
			{Name: "rate", Kind: OptionInt, Default: int64(128), Min: 8, Max: 860,
				Doc: "samples per second: slower ones are less noisy"},
		},
		Timeout: time.Second,
		Open:    openADS1115,
	}
}

type ads1115Sensor struct {
	conn *bus.Conn
	pin  ads1x15.PinADC
	full float64
}

func openADS1115(ctx context.Context, c Config, buses *bus.Set) (Sensor, error) {
	b, err := buses.I2C(c.Bus)
	if err != nil {
		return nil, err
	}
	s := &ads1115Sensor{conn: b.Conn(), full: c.Options["range"].(float64)}
	s.conn.Begin(ctx)
	dev, err := ads1x15.NewADS1115(&untilConverted{s.conn}, &ads1x15.Opts{I2cAddress: c.Address})
	if err != nil {
		return nil, err
	}
	limit := physic.ElectricPotential(math.Round(s.full*1e3)) * physic.MilliVolt
	rate := physic.Frequency(c.Options["rate"].(int64)) * physic.Hertz
	s.pin, err = dev.PinForChannel(ads1115Channels[c.Options["channel"].(string)], limit, rate, ads1x15.BestQuality)
	if err != nil {
		return nil, err
	}
	// periph does not look whether there is a chip.
	if err := s.conn.Tx(c.Address, []byte{ads1115Config}, make([]byte, 2)); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *ads1115Sensor) Sense(ctx context.Context) ([]Measurement, error) {
	s.conn.Begin(ctx)
	v, err := s.pin.Read()
	if err != nil {
		return nil, s.conn.Cause(err)
	}
	if v.Raw == math.MaxInt16 || v.Raw == math.MinInt16 {
		return nil, fmt.Errorf("the voltage is beyond the range: choose a larger range than %v V", s.full)
	}
	return []Measurement{{"voltage", float64(v.V) / float64(physic.Volt), "V"}}, nil
}

func (s *ads1115Sensor) Close() error { return nil }

// Registers (section 8.1).
const (
	ads1115Conversion = 0
	ads1115Config     = 1
	ads1115Idle       = 0x80 // first byte of the config register: no conversion runs
)

// untilConverted is a bus that has a reader of the conversion register wait until the conversion has
// ended. periph sleeps for exactly one period of the data rate, but the chip's oscillator may be 10 %
// slow (section 6.5), and then the value is the one before.
type untilConverted struct{ *bus.Conn }

var _ i2c.Bus = (*untilConverted)(nil)

func (u *untilConverted) Tx(addr uint16, w, r []byte) error {
	if len(w) != 1 || w[0] != ads1115Conversion {
		return u.Conn.Tx(addr, w, r)
	}
	status := make([]byte, 2)
	for {
		if err := u.Conn.Tx(addr, []byte{ads1115Config}, status); err != nil {
			return err
		}
		if status[0]&ads1115Idle != 0 {
			return u.Conn.Tx(addr, w, r)
		}
		time.Sleep(time.Millisecond) // Tx fails when the reading's time is over
	}
}
