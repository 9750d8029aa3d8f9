package chips

import (
	"context"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// iio reads any device of the kernel's industrial I/O subsystem
// (Documentation/ABI/testing/sysfs-bus-iio).
func iio() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "iio", Doc: "whatever a kernel driver measures through industrial I/O: channels are found, scaled and named",
			Chip:      "BME680, BMP388, HTS221 (Sense HAT), HTU21D, Si7021, HDC1080, DHT11/22, MCP3008, MAX31855, VEML7700, SCD30, ADXL345 and some hundred more",
			Datasheet: "Documentation/ABI/testing/sysfs-bus-iio",
			Wiring:    "as the kernel's overlay says: dtoverlay=i2c-sensor,bme680 and so on in config.txt (dtoverlay -h i2c-sensor lists them)",
			Options: []sensors.Option{
				{Name: "device", Kind: sensors.OptionString, Required: true, Doc: "name of the device, as in /sys/bus/iio/devices/*/name"},
				atOption, channelsOption,
			},
			Timeout: 2 * time.Second,
		},
		QuantitiesOf: func(map[string]any) []sensors.Quantity {
			return nil // the device knows
		},
		Find: named("bus/iio/devices/iio:device*/name", "device"),
		Open: openIIO,
	}
}

// iioTypes are the kinds of channels, the unit that the ABI gives them, ours, and what values can be true at all: what
// no sensor of the kind measures is an error of class ErrImplausible, such as a driver's that takes another unit. Both
// bounds zero means any number.
var iioTypes = map[string]struct {
	name, unit string
	factor     float64
	low, high  float64 // in our unit
}{
	"temp":                   {"temperature", "°C", 1e-3, -273.15, 2500}, // to the hottest thermocouple
	"humidityrelative":       {"humidity", "%", 1e-3, -6, 119},           // to the ends of the SHT4x's formula
	"pressure":               {"pressure", "hPa", 10, -20e3, 1e6},        // kPa; against the air's, or up to 1000 bar
	"voltage":                {"voltage", "V", 1e-3, -10e3, 10e3},
	"altvoltage":             {"altvoltage", "V", 1e-3, -10e3, 10e3},
	"current":                {"current", "A", 1e-3, -10e3, 10e3},
	"power":                  {"power", "W", 1e-3, -10e6, 10e6},
	"energy":                 {"energy", "J", 1, -1e15, 1e15},
	"resistance":             {"resistance", "Ω", 1, 0, 1e12},
	"capacitance":            {"capacitance", "nF", 1, -1e9, 1e9},
	"illuminance":            {"illuminance", "lx", 1, 0, 300e3}, // the sun has 130,000
	"intensity":              {"intensity", "", 1, -1e12, 1e12},
	"uvindex":                {"uvindex", "", 1, 0, 100},
	"proximity":              {"proximity", "", 1, -1e12, 1e12},
	"distance":               {"distance", "m", 1, 0, 1e5},
	"concentration":          {"concentration", "ppm", 1e4, 0, 1e6}, // percent
	"massconcentration":      {"massconcentration", "µg/m³", 1, 0, 1e9},
	"electricalconductivity": {"conductivity", "S/m", 1, 0, 1e3},
	"ph":                     {"ph", "", 1, -2, 16},
	"accel":                  {"acceleration", "m/s²", 1, -50e3, 50e3}, // 5000 g
	"anglvel":                {"rotation", "rad/s", 1, -1e3, 1e3},
	"magn":                   {"magnetic", "G", 1, -1e6, 1e6},
	"angl":                   {"angle", "rad", 1, -1e9, 1e9},
	"incli":                  {"inclination", "°", 1, -360, 360},
	"velocity":               {"velocity", "m/s", 1, -1e5, 1e5},
	"gravity":                {"gravity", "m/s²", 1, -200, 200},
	"steps":                  {"steps", "", 1, 0, 1e15},
	"count":                  {"count", "", 1, -1e19, 1e19},
	"index":                  {"index", "", 1, -1e19, 1e19},
}

// iioValue is a file with a value: in_<type><index>_<modifier>_raw, in_voltage0-voltage1_raw.
var iioValue = regexp.MustCompile(`^in_(([a-z]+)(\d*(?:-[a-z]+\d*)?)((?:_[a-z0-9]+)*?))_(input|raw)$`)

func openIIO(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	s := &kernelSensor{sys: sys, name: stringOption(c, "device")}
	dir, err := findDevice(sys, "bus/iio/devices/iio:device*", s.name, stringOption(c, "at"),
		"add its dtoverlay to config.txt, or check the wiring: dmesg says why a driver gave up")
	if err != nil {
		return nil, err
	}
	s.identity = path.Join(dir, "name")
	entries, err := fs.ReadDir(sys, dir)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	for _, e := range entries {
		m := iioValue.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		base, kind, index, modifier, form := m[1], m[2], m[3], m[4], m[5]
		t, known := iioTypes[kind]
		if !known || form == "raw" && has("in_"+base+"_input") {
			continue
		}
		ch := channel{Quantity: sensors.Quantity{Name: t.name + inTopic(index) + modifier, Unit: t.unit}, names: []string{base}}
		ch.Min, ch.Max = plausible(s.name, kind, t.low, t.high)
		off := deviationOf(s.name, kind)
		if kind == "concentration" && modifier != "" {
			ch.Name = strings.TrimPrefix(modifier, "_") + index // co2, voc
		}
		if label, err := bus.ReadFile(sys, path.Join(dir, "in_"+base+"_label")); err == nil && inTopic(label) != "" {
			ch.Name = t.name + "_" + inTopic(label)
		}
		ch.files = []string{path.Join(dir, e.Name())}
		if form == "input" {
			ch.decode = func(texts []string) (float64, error) {
				v, err := decimal(texts[0])
				return v * off.correct(off.input, v) * t.factor, err
			}
		} else {
			ch.decode = s.raw(&ch, dir, kind, index, base, has, t.factor, off)
		}
		s.channels = append(s.channels, ch)
	}
	unique(s.channels)
	return s, s.choose(stringsOption(c, "channels"))
}

// raw decodes (raw + offset) * scale. Offset and scale may be the channel's own or shared by its kind, and
// are read each time, because a change of range changes them.
func (s *kernelSensor) raw(ch *channel, dir, kind, index, base string, has func(string) bool, factor float64, off deviation) func([]string) (float64, error) {
	shared := []string{base, kind + index}
	if first, second, pair := strings.Cut(index, "-"); pair {
		shared = append(shared, kind+first, kind+"-"+strings.TrimRight(second, "0123456789"))
	}
	shared = append(shared, kind)
	file := func(suffix string) bool {
		for _, b := range shared {
			if name := "in_" + b + suffix; has(name) {
				ch.files = append(ch.files, path.Join(dir, name))
				return true
			}
		}
		return false
	}
	hasOffset, hasScale := file("_offset"), file("_scale")
	return func(texts []string) (float64, error) {
		numbers := make([]float64, len(texts))
		for i, text := range texts {
			var err error
			if numbers[i], err = decimal(text); err != nil {
				return 0, err
			}
		}
		v, offset, scale := numbers[0], 0.0, 1.0
		if hasOffset {
			offset = numbers[1]
		}
		if hasScale {
			scale = numbers[len(numbers)-1]
		}
		return (v + offset) * scale * off.correct(off.raw, scale) * factor, nil
	}
}
