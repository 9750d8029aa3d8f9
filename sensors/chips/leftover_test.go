package chips_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/simulated"
)

// What another program has left a chip in is not what it is read in: each case sends what such a program would, and then
// opens the driver as usual.
func TestChipsThatAnotherProgramHasLeft(t *testing.T) {
	for _, c := range []struct {
		name, model string
		address     uint16
		left        [][]byte // I2C, or the serial port if the address is 0
		pause       time.Duration
		options     map[string]any
		input       string // the quantity that shows whether it is right
		value       float64
		within      float64
	}{
		{"ten measurements a second", "sht3x", 0x44, [][]byte{{0x27, 0x37}}, 0, nil, "temperature", -12.5, 0.01},
		{"one measurement a second", "sht3x", 0x44, [][]byte{{0x21, 0x30}}, 0, nil, "humidity", 87, 0.01},
		{"powered down", "scd4x", 0x62, [][]byte{{0x36, 0xE0}}, 5 * time.Millisecond, nil, "co2", 1234, 0.6},
		{"measuring", "scd4x", 0x62, [][]byte{{0x21, 0xB1}}, 7 * time.Second, nil, "co2", 1234, 0.6},
		{"MTreg for the sun", "bh1750", 0x23, [][]byte{{0x40}, {0x7F}}, 0, nil, "illuminance", 1000, 1},
		{"MTreg for the dark", "bh1750", 0x23, [][]byte{{0x47}, {0x7E}}, 0, map[string]any{"measurement_time": int64(31)}, "illuminance", 1000, 2},
		{"passive mode", "pms5003", 0, [][]byte{{0x42, 0x4D, 0xE1, 0, 0, 1, 0x70}}, 0, nil, "pm10", 40, 0.6},
		{"asleep", "pms5003", 0, [][]byte{{0x42, 0x4D, 0xE4, 0, 0, 1, 0x73}}, 0, nil, "pm10", 40, 0.6},
		{"query mode", "sds011", 0, [][]byte{sds011(2, 1, 1)}, 0, nil, "pm2_5", 40, 0.1},
		{"asleep but for one minute in five", "sds011", 0, [][]byte{sds011(8, 1, 5)}, 0, nil, "pm2_5", 40, 0.1},
	} {
		t.Run(c.model+" "+c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pi := simulated.New(simulated.Options{})
				place(t, pi, c.model, "simulated", c.address).Set(c.input, c.value)
				leave(t, pi, c.address, c.left)
				time.Sleep(c.pause)
				s, err := open(t, c.model, pi, c.options)
				if err != nil {
					t.Fatal(err)
				}
				m, err := sensors.SenseWait(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range m {
					if v.Quantity == c.input && math.Abs(v.Value-c.value) > c.within {
						t.Errorf("got %v, want %v", v, c.value)
					}
				}
			})
		})
	}
}

func sds011(data ...byte) []byte {
	b := append([]byte{0xAA, 0xB4}, data...)
	b = append(append(b, make([]byte, 13-len(data))...), 0xFF, 0xFF)
	sum := byte(0)
	for _, v := range b[2:] {
		sum += v
	}
	return append(b, sum, 0xAB)
}

// leave sends bytes to a chip behind the driver's back.
func leave(t *testing.T, pi *simulated.Pi, address uint16, left [][]byte) {
	t.Helper()
	buses := bus.NewSet(pi)
	defer buses.Close()
	for _, w := range left {
		var err error
		if address == 0 {
			var u *bus.UART
			if u, err = buses.UART("simulated", 9600); err == nil {
				u.Begin(t.Context())
				_, err = u.Write(w)
				u.Close()
			}
		} else {
			var dev *bus.Device
			if dev, err = buses.I2CDevice("simulated", address); err == nil {
				dev.Begin(t.Context())
				err = dev.Tx(w, nil)
			}
		}
		if err != nil {
			t.Fatalf("% x: %v", w, err)
		}
	}
}

// told opens a driver with options and returns what it has written to its chip, once it has a reading.
func told(t *testing.T, name, busName string, options map[string]any) (written [][]byte) {
	t.Helper()
	pi := simulated.New(simulated.Options{})
	d := driver(t, name)
	c := config("s", name, busName, time.Second)
	if d.Kind(busName) == sensors.BusI2C {
		c.Address = d.Addresses[0]
	}
	for k, v := range options {
		c.Options[k] = v
	}
	place(t, pi, name, busName, c.Address)
	buses := bus.NewSet(pi)
	buses.Trace = func(tr bus.Transfer) {
		if len(tr.W) > 0 {
			written = append(written, bytes.Clone(tr.W))
		}
	}
	s, err := d.Open(t.Context(), c, buses)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sensors.SenseWait(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return written
}

func wrote(written [][]byte, want []byte) bool {
	for _, w := range written {
		if bytes.HasPrefix(w, want) {
			return true
		}
	}
	return false
}

// TestSCD4xOptions compares with the data sheet's examples: an offset of 5.4 °C is 0x07E6, a pressure of 987 hPa 0x03DB, a
// height of 1950 m 0x079E.
func TestSCD4xOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := told(t, "scd4x", "simulated", map[string]any{"temperature_offset": 5.4, "ambient_pressure": int64(987)})
		for _, want := range [][]byte{{0x24, 0x1D, 0x07, 0xE6, 0x48}, {0xE0, 0x00, 0x03, 0xDB, 0x42}} {
			if !wrote(w, want) {
				t.Errorf("was told % x, want % x among it", w, want)
			}
		}
		if w = told(t, "scd4x", "simulated", map[string]any{"altitude": int64(1950)}); !wrote(w, []byte{0x24, 0x27, 0x07, 0x9E, 0x09}) {
			t.Errorf("was told % x, want 1950 m", w)
		}
		if w = told(t, "scd4x", "simulated", nil); wrote(w, []byte{0x24, 0x1D}) || wrote(w, []byte{0xE0, 0x00}) || wrote(w, []byte{0x24, 0x27}) {
			t.Errorf("without options was told % x", w)
		}
	})
	if err := driver(t, "scd4x").Check(sensors.Config{Options: map[string]any{"altitude": int64(1), "ambient_pressure": int64(987)}}); err == nil || !strings.Contains(err.Error(), "altitude") {
		t.Errorf("height and pressure: %v", err)
	}
}

// On SPI an MPU-9250 has to be told that what is on the wires for others is not I2C (register map, USER_CTRL, I2C_IF_DIS).
func TestMPU9250IsToldThatItIsOnSPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if w := told(t, "mpu9250", "simulated-spi", nil); !wrote(w, []byte{0x6A, 0x10}) {
			t.Errorf("on SPI: was told % x", w)
		}
		if w := told(t, "mpu9250", "simulated", nil); wrote(w, []byte{0x6A, 0x10}) {
			t.Errorf("on I2C: was told % x", w)
		}
	})
}

// One knock is no failure; an acceleration that stays is.
func TestOneShockOnAnAccelerometer(t *testing.T) {
	for name, g := range map[string]float64{"adxl345": 17, "lis3dh": 3, "mpu9250": 5} {
		synctest.Test(t, func(t *testing.T) {
			pi := simulated.New(simulated.Options{})
			chip := place(t, pi, name, "simulated", driver(t, name).Addresses[0])
			chip.Set("acceleration_z", 9.8)
			s, err := open(t, name, pi, nil)
			if err != nil {
				t.Fatal(err)
			}
			read := func(knock time.Duration) ([]sensors.Measurement, error) {
				chip.Set("acceleration_z", g*9.80665)
				time.AfterFunc(knock, func() { chip.Set("acceleration_z", 9.8) })
				ctx, cancel := context.WithTimeout(t.Context(), driver(t, name).Timeout)
				defer cancel()
				return sensors.SenseWait(ctx, s)
			}
			if _, err := sensors.SenseWait(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			m, err := read(40 * time.Millisecond)
			if err != nil {
				t.Fatalf("%s: one knock: %v", name, err)
			}
			for _, v := range m {
				if v.Quantity == "acceleration_z" && math.Abs(v.Value-9.8) > 0.1 {
					t.Errorf("%s: got %v after a knock", name, v)
				}
			}
			if m, err := read(time.Minute); sensors.ClassOf(err) != sensors.Permanent {
				t.Errorf("%s: an acceleration that stays: got %v, %v", name, m, err)
			}
			time.Sleep(2 * time.Minute)
		})
	}
}

// TestSGP30KeepsItsBaseline lets the chip learn for twelve hours, and lose its power.
func TestSGP30KeepsItsBaseline(t *testing.T) {
	for _, c := range []struct {
		away time.Duration
		kept bool
	}{{time.Minute, true}, {6 * 24 * time.Hour, true}, {8 * 24 * time.Hour, false}} {
		synctest.Test(t, func(t *testing.T) {
			host := &sensors.NoHost{}
			pi := simulated.New(simulated.Options{})
			chip := place(t, pi, "sgp30", "simulated", 0x58)
			begin := func() (sensors.Sensor, *[][]byte) {
				buses := bus.NewSet(pi)
				written := &[][]byte{}
				buses.Trace = func(tr bus.Transfer) { *written = append(*written, bytes.Clone(tr.W)) }
				conf := config("air", "sgp30", "simulated", time.Second)
				conf.Address, conf.Host = 0x58, host
				s, err := driver(t, "sgp30").Open(t.Context(), conf, buses)
				if err != nil {
					t.Fatal(err)
				}
				return s, written
			}
			s, _ := begin()
			for range 30 {
				if _, err := sensors.SenseWait(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			if host.Recall("air") != nil {
				t.Error("a baseline is remembered before the chip has learned")
			}
			time.Sleep(12*time.Hour + time.Minute)
			if _, err := sensors.SenseWait(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			s.Close()
			chip.Fault(simulated.PowerCycle)
			time.Sleep(c.away)
			_, written := begin()
			// Set: TVOC 0x8AAE first, with checksums (data sheet, section 6.3); it is read with eCO2 0x8973 first.
			if got := wrote(*written, []byte{0x20, 0x1E, 0x8A, 0xAE}); got != c.kept {
				t.Errorf("away for %v: the baseline is set: %v, want %v", c.away, got, c.kept)
			}
		})
	}
}

// TestVOCIndexOverReopening: a gateway that starts again goes on with the index at once, after a long time it begins anew.
func TestVOCIndexOverReopening(t *testing.T) {
	for away, goesOn := range map[time.Duration]bool{time.Second: true, 9 * time.Minute: true, 11 * time.Minute: false, -time.Hour: false} {
		synctest.Test(t, func(t *testing.T) {
			host := &sensors.NoHost{}
			pi := simulated.New(simulated.Options{})
			place(t, pi, "sgp40", "simulated", 0x59).Set("voc_raw", 30000)
			begin := func() sensors.Sensor {
				c := config("air", "sgp40", "simulated", time.Second)
				c.Address, c.Host = 0x59, host
				s, err := driver(t, "sgp40").Open(t.Context(), c, bus.NewSet(pi))
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := begin()
			for range 400 {
				sense(t, s)
				time.Sleep(time.Second)
			}
			s.Close()
			if away > 0 {
				time.Sleep(away)
			} else { // a clock that was set back: what was remembered is of a time that has not come yet
				b := host.Recall("air")
				host.Remember("air", append([]byte{b[0], b[1], b[2] + 1}, b[3:]...))
			}
			if _, ok := sense(t, begin())["voc_index"]; ok != goesOn {
				t.Errorf("away for %v: an index at once: %v, want %v", away, ok, goesOn)
			}
		})
	}
}

// An INA226 of a later revision, and an unknown relative of the BME680.
func TestIdentifications(t *testing.T) {
	for _, c := range []struct {
		model   string
		address uint16
		reg     byte
		value   []byte
		ok      bool
	}{
		{"ina226", 0x40, 0xFF, []byte{0x22, 0x60}, true}, {"ina226", 0x40, 0xFF, []byte{0x22, 0x61}, true}, {"ina226", 0x40, 0xFF, []byte{0x22, 0x6F}, true},
		{"ina226", 0x40, 0xFF, []byte{0x22, 0x70}, false}, {"ina3221", 0x40, 0xFF, []byte{0x32, 0x21}, false},
		{"bme680", 0x76, 0xF0, []byte{0}, true}, {"bme680", 0x76, 0xF0, []byte{3}, false}, {"bme680", 0x76, 0xF0, []byte{0xFF}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			pi := simulated.New(simulated.Options{})
			chip := place(t, pi, c.model, "simulated", c.address)
			chip.Answer(c.reg, c.value)
			d := driver(t, c.model)
			buses := bus.NewSet(pi)
			dev, err := buses.I2CDevice("simulated", c.address)
			if err != nil {
				t.Fatal(err)
			}
			dev.Begin(t.Context())
			if name, err := d.Identify(dev); err != nil || (name != "") != c.ok {
				t.Errorf("%s with % x: identified as %q, %v", c.model, c.value, name, err)
			}
			s, err := open(t, c.model, pi, nil)
			if c.ok {
				if err == nil {
					_, err = sensors.SenseWait(t.Context(), s)
				}
				if err != nil {
					t.Errorf("%s with % x: %v", c.model, c.value, err)
				}
			} else if !errors.Is(err, sensors.ErrPermanent) {
				t.Errorf("%s with % x: got %v, want an error of class permanent", c.model, c.value, err)
			}
		})
	}
}

// 0x7FF0 is a voltage like any other for 16 bits, and the full scale for 12.
func TestADS1115TakesWhatOnlyTheADS1015CannotMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, ok := range map[string]bool{"ads1115": true, "ads1015": false} {
			pi := simulated.New(simulated.Options{})
			place(t, pi, name, "simulated", 0x48).Set("voltage0", 0x7FF0/32768.0*4.096)
			s, err := open(t, name, pi, nil)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := s.Sense(t.Context()); (err == nil) != ok {
				t.Errorf("%s: got %v, %v", name, m, err)
			}
		}
	})
}

// disturbed is a bus on which one bit of the first answer of a length arrives wrong. No checksum shows that.
type disturbed struct {
	*simulated.Pi
	length int
	times  int // how often; the answers after that are right
}

func (d *disturbed) I2C(name string) (i2c.BusCloser, error) {
	b, err := d.Pi.I2C(name)
	return &disturbedBus{b, d}, err
}

type disturbedBus struct {
	i2c.BusCloser
	d *disturbed
}

func (b *disturbedBus) Tx(addr uint16, w, r []byte) error {
	err := b.BusCloser.Tx(addr, w, r)
	if len(r) == b.d.length && b.d.times > 0 {
		b.d.times--
		r[6] ^= byte(b.d.times%2 + 1) // of a parameter of the pressure, and another one each time
	}
	return err
}

// A calibration is read twice: one wrong bit would be in every reading, and look right.
func TestCalibrationIsReadTwice(t *testing.T) {
	for name, length := range map[string]int{"bme280": 26, "bmp280": 26, "bme680": 23} {
		synctest.Test(t, func(t *testing.T) {
			for _, times := range []int{1, 1000} {
				pi := &disturbed{Pi: simulated.New(simulated.Options{}), length: length, times: times}
				place(t, pi.Pi, name, "simulated", 0x76).Set("pressure", 1000)
				s, err := open(t, name, pi, nil)
				if err != nil {
					if !errors.Is(err, bus.ErrTemporary) {
						t.Errorf("%s, %d wrong answers: %v", name, times, err)
					}
					continue
				}
				if times > 1 {
					t.Errorf("%s: a calibration that reads differently each time is used", name)
				}
				m, err := sensors.SenseWait(t.Context(), s)
				for _, v := range m {
					if v.Quantity == "pressure" && math.Abs(v.Value-1000) > 0.1 {
						t.Errorf("%s: %v, %v, want 1000 hPa", name, v, err)
					}
				}
			}
		})
	}
}
