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
			Chip:      "BME680, BMP388, HTU21D, Si7021, HDC1080, AHT10, SHT3x, DHT11/22, MCP3008, MAX31855, VEML7700, SCD30, ADXL345 and some hundred more",
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

// iioTypes are the kinds of channels, the unit that the ABI gives them, and ours.
var iioTypes = map[string]struct {
	name, unit string
	factor     float64
}{
	"temp":                   {"temperature", "°C", 1e-3},
	"humidityrelative":       {"humidity", "%", 1e-3},
	"pressure":               {"pressure", "hPa", 10}, // kPa
	"voltage":                {"voltage", "V", 1e-3},
	"altvoltage":             {"altvoltage", "V", 1e-3},
	"current":                {"current", "A", 1e-3},
	"power":                  {"power", "W", 1e-3},
	"energy":                 {"energy", "J", 1},
	"resistance":             {"resistance", "Ω", 1},
	"capacitance":            {"capacitance", "nF", 1},
	"illuminance":            {"illuminance", "lx", 1},
	"intensity":              {"intensity", "", 1},
	"uvindex":                {"uvindex", "", 1},
	"proximity":              {"proximity", "", 1},
	"distance":               {"distance", "m", 1},
	"concentration":          {"concentration", "ppm", 1e4}, // percent
	"massconcentration":      {"massconcentration", "µg/m³", 1},
	"electricalconductivity": {"conductivity", "S/m", 1},
	"ph":                     {"ph", "", 1},
	"accel":                  {"acceleration", "m/s²", 1},
	"anglvel":                {"rotation", "rad/s", 1},
	"magn":                   {"magnetic", "G", 1},
	"angl":                   {"angle", "rad", 1},
	"incli":                  {"inclination", "°", 1},
	"velocity":               {"velocity", "m/s", 1},
	"gravity":                {"gravity", "m/s²", 1},
	"steps":                  {"steps", "", 1},
	"count":                  {"count", "", 1},
	"index":                  {"index", "", 1},
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
		if kind == "concentration" && modifier != "" {
			ch.Name = strings.TrimPrefix(modifier, "_") + index // co2, voc
		}
		if label, err := bus.ReadFile(sys, path.Join(dir, "in_"+base+"_label")); err == nil && inTopic(label) != "" {
			ch.Name = t.name + "_" + inTopic(label)
		}
		ch.files = []string{path.Join(dir, e.Name())}
		if form == "input" {
			ch.decode = scaled(t.factor)
		} else {
			ch.decode = s.raw(&ch, dir, kind, index, base, has, t.factor)
		}
		s.channels = append(s.channels, ch)
	}
	unique(s.channels)
	return s, s.choose(stringsOption(c, "channels"))
}

// raw decodes (raw + offset) * scale. Offset and scale may be the channel's own or shared by its kind, and
// are read each time, because a change of range changes them.
func (s *kernelSensor) raw(ch *channel, dir, kind, index, base string, has func(string) bool, factor float64) func([]string) (float64, error) {
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
		v, err := decimal(texts[0])
		if err != nil {
			return 0, err
		}
		texts = texts[1:]
		for _, step := range []struct {
			there bool
			apply func(float64)
		}{{hasOffset, func(o float64) { v += o }}, {hasScale, func(f float64) { v *= f }}} {
			if !step.there {
				continue
			}
			f, err := decimal(texts[0])
			if err != nil {
				return 0, err
			}
			step.apply(f)
			texts = texts[1:]
		}
		return v * factor, nil
	}
}
