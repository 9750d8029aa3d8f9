package simulated

import (
	"fmt"
	"io/fs"
	"math"
	"path"
	"time"

	"holdfast/sensors"
)

// kernelFiles makes what a driver over the kernel is configured for, where it is not there yet: a device
// of its name that measures air, thermometers of its ids, and /proc. So a configuration of a real Pi
// runs anywhere.
func (p *Pi) kernelFiles(c sensors.Config) {
	name, _ := c.Options["device"].(string)
	seed := p.seed + uint64(len(name))
	switch c.Driver {
	case "iio":
		p.sys.device("bus/iio/devices/iio:device", name, iioValues(name, seed))
	case "hwmon":
		p.sys.device("class/hwmon/hwmon", name, map[string]func(time.Time) float64{
			"temp1_input": thousand(airTemperature, seed),
			"in1_input":   thousand(swing(12, 0.4), seed),
			"curr1_input": thousand(swing(0.8, 0.3), seed),
		})
	case "w1":
		ids, _ := c.Options["ids"].([]string)
		for i, id := range ids {
			dir := path.Join("bus/w1/devices", id)
			if _, err := fs.Stat(p.sys, path.Join(dir, "temperature")); err != nil && fs.ValidPath(dir) {
				p.sys.thermometer(dir, func(t time.Time) float64 { return airTemperature(seed+uint64(i), t) })
			}
		}
	case "system":
		begun := time.Now()
		p.sys.Func("proc/loadavg", func() (string, error) {
			l := math.Abs(wave(seed, time.Now(), 10*time.Minute))
			return fmt.Sprintf("%.2f %.2f %.2f 1/100 1000", l, l, l), nil
		})
		p.sys.Func("proc/uptime", func() (string, error) { return fmt.Sprintf("%.2f 0.00", time.Since(begun).Seconds()), nil })
		p.sys.Set("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 700000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB")
		p.sys.Set("disk", "32000000000 20000000000")
		p.sys.Set("devices/platform/soc/soc:firmware/get_throttled", "0")
	}
}

// iioValues are the files of a device, as the kernel's driver of its name has them
// (drivers/iio/chemical/bme680_core.c, drivers/iio/humidity/hts221.c), and of any other one by the ABI.
func iioValues(name string, seed uint64) map[string]func(time.Time) float64 {
	temperature, humidity := thousand(airTemperature, seed), thousand(airHumidity, seed)
	pressure := func(t time.Time) float64 { return airPressure(seed, t) / 10 } // kPa
	switch name {
	case "bme680":
		return map[string]func(time.Time) float64{
			"in_temp_input": temperature, "in_pressure_input": pressure,
			"in_humidityrelative_input": func(t time.Time) float64 { return humidity(t) / 1000 }, // %, against the ABI
			"in_resistance_input":       func(t time.Time) float64 { return math.Round(swing(120e3, 40e3)(seed, t)) },
		}
	case "hts221":
		// Counts, with an offset in counts, and a scale in % and °C against the ABI.
		counts := func(v func(time.Time) float64, offset, scale float64) func(time.Time) float64 {
			return func(t time.Time) float64 { return math.Round(v(t)/1000/scale - offset) }
		}
		constant := func(v float64) func(time.Time) float64 { return func(time.Time) float64 { return v } }
		const rhOffset, rhScale, tOffset, tScale = -7885.611940298, -0.0041875, 754.047440699, 0.02503125
		return map[string]func(time.Time) float64{
			"in_humidityrelative_raw":    counts(humidity, rhOffset, rhScale),
			"in_humidityrelative_offset": constant(rhOffset), "in_humidityrelative_scale": constant(rhScale),
			"in_temp_raw":    counts(temperature, tOffset, tScale),
			"in_temp_offset": constant(tOffset), "in_temp_scale": constant(tScale),
		}
	}
	return map[string]func(time.Time) float64{
		"in_temp_input": temperature, "in_humidityrelative_input": humidity, "in_pressure_input": pressure,
		"in_voltage0_input": thousand(swing(1.6, 0.5), seed),
	}
}

// thousand is a curve in thousandths, as the kernel has most.
func thousand(curve func(uint64, time.Time) float64, seed uint64) func(time.Time) float64 {
	return func(t time.Time) float64 { return math.Round(1000 * curve(seed, t)) }
}

// device makes a directory that is called name, under the first number that is free, unless there is one.
func (s *Sysfs) device(prefix, name string, values map[string]func(time.Time) float64) {
	for n := 0; ; n++ {
		dir := fmt.Sprintf("%s%d", prefix, n)
		text, err := fs.ReadFile(s, dir+"/name")
		if err == nil && string(text) == name+"\n" {
			return
		}
		if err != nil {
			s.Set(dir+"/name", name)
			for file, v := range values {
				s.value(dir+"/"+file, v)
			}
			return
		}
	}
}

func (s *Sysfs) value(file string, v func(time.Time) float64) {
	s.Func(file, func() (string, error) { return fmt.Sprint(v(time.Now())), nil })
}
