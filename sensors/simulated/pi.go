// Package simulated is a Raspberry Pi without the Pi: chips that behave as their data sheets say,
// register by register, behind buses that the real drivers use unchanged, and a tree that stands in
// for /sys.
//
// It promises that what a driver reads follows a smooth day curve that only the seed and the time
// decide, and that every fault that can be set is one that real hardware has shown. It does not
// simulate electricity, clock stretching or noise.
package simulated

import (
	"fmt"
	"io/fs"
	"math"
	"sync"
	"testing/fstest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/sensors/bus"
)

// Options of a Pi.
type Options struct {
	Seed uint64 // shifts the curves
}

// Pi is one simulated machine. All methods are safe for concurrent use.
type Pi struct {
	seed uint64

	mu    sync.Mutex
	buses map[string]*Bus
	lines map[string]*Line
}

var _ bus.Simulator = (*Pi)(nil)

// New returns a Pi. Every I2C bus of it has a BME280 at 0x76 and an ADS1115 at 0x48.
func New(o Options) *Pi {
	return &Pi{seed: o.Seed, buses: map[string]*Bus{}, lines: map[string]*Line{}}
}

// Bus returns the bus of that name, "simulated" or "simulated-N", for faults to be set.
func (p *Pi) Bus(name string) *Bus {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.buses[name]
	if b == nil {
		b = &Bus{name: name, chips: map[uint16]*Chip{}}
		// Every bus is a little different, so that a mixed-up reading is seen.
		seed := p.seed*31 + uint64(len(p.buses))
		b.chips[0x76] = &Chip{model: newBME280(func() climate { return weather(seed, time.Now()) })}
		b.chips[0x48] = &Chip{model: newADS1115(func() [4]float64 { return voltages(seed, time.Now()) })}
		p.buses[name] = b
	}
	return b
}

// I2C opens a bus.
func (p *Pi) I2C(name string) (i2c.BusCloser, error) { return p.Bus(name), nil }

// Line opens a GPIO line of the header as an input.
func (p *Pi) Line(_ string, offset int) (bus.Line, error) {
	return p.Input(bus.LineOptions{Offset: offset})
}

// Sysfs returns /sys: a DS18B20 on the 1-Wire bus (Documentation/w1/slaves/w1_therm.rst) and the
// processor's thermal zone (Documentation/driver-api/thermal/sysfs-api.rst). The files tell the time
// at which they are opened.
func (p *Pi) Sysfs() fs.FS { return sysfs{p.seed} }

type sysfs struct{ seed uint64 }

func (s sysfs) Open(name string) (fs.File, error) {
	now := time.Now()
	soil := weather(s.seed+7, now).temperature - 4
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n"), Mode: 0o444} }
	return fstest.MapFS{
		"bus/w1/devices/28-0316a2795bff/name":        file("28-0316a2795bff"),
		"bus/w1/devices/28-0316a2795bff/temperature": file(fmt.Sprint(int(soil * 1000))),
		"class/thermal/thermal_zone0/type":           file("cpu-thermal"),
		"class/thermal/thermal_zone0/temp":           file(fmt.Sprint(int(1000 * (45 + 3*wave(s.seed, now, time.Hour))))),
	}.Open(name)
}

// climate is what a BME280 measures.
type climate struct {
	temperature float64 // °C
	humidity    float64 // %
	pressure    float64 // Pa
}

// weather is a greenhouse's: warmest in the afternoon, humidity against it, pressure over days.
func weather(seed uint64, t time.Time) climate {
	day := wave(seed, t, 24*time.Hour)
	gust := wave(seed+1, t, 7*time.Minute)
	return climate{
		temperature: 21 + 6*day + 0.3*gust,
		humidity:    62 - 15*day + 1.5*gust,
		pressure:    101_325 + 900*wave(seed+2, t, 61*time.Hour),
	}
}

// voltages are the four inputs of an ADS1115, in V.
func voltages(seed uint64, t time.Time) (v [4]float64) {
	for i := range v {
		v[i] = 1 + 0.4*float64(i) + 0.25*wave(seed+uint64(i), t, 3*time.Hour)
	}
	return v
}

// wave swings between -1 and 1, a little irregular, once in a period.
func wave(seed uint64, t time.Time, period time.Duration) float64 {
	phase := 2 * math.Pi * (float64(t.UnixNano()%int64(100*period))/float64(period) + float64(seed%97)/97)
	return 0.85*math.Sin(phase) + 0.15*math.Sin(3*phase+1)
}
