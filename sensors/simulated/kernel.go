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
		p.sys.device("bus/iio/devices/iio:device", name, map[string]func(time.Time) float64{
			"in_temp_input":             thousand(airTemperature, seed),
			"in_humidityrelative_input": thousand(airHumidity, seed),
			"in_pressure_input":         func(t time.Time) float64 { return airPressure(seed, t) / 10 },
			"in_voltage0_input":         thousand(swing(1.6, 0.5), seed),
		})
	case "hwmon":
		p.sys.device("class/hwmon/hwmon", name, map[string]func(time.Time) float64{
			"temp1_input": thousand(airTemperature, seed),
			"in1_input":   thousand(swing(12, 0.4), seed),
			"curr1_input": thousand(swing(0.8, 0.3), seed),
		})
	case "w1":
		ids, _ := c.Options["ids"].([]string)
		for i, id := range ids {
			file := path.Join("bus/w1/devices", id, "temperature")
			if _, err := fs.Stat(p.sys, file); err != nil && fs.ValidPath(file) {
				p.sys.value(file, thousand(airTemperature, seed+uint64(i)))
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
	s.Func(file, func() (string, error) { return fmt.Sprintf("%g", v(time.Now())), nil })
}
