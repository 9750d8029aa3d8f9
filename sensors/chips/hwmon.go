package chips

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// hwmon reads any device of the kernel's hardware monitoring (Documentation/hwmon/sysfs-interface.rst).
func hwmon() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "hwmon", Doc: "whatever a kernel driver measures through hardware monitoring",
			Chip:      "INA219, INA226, INA3221, LM75, TMP102, SHT3x, SHT4x, AHT10, AHT20, EMC2301 fan controllers, NVMe disks, the Pi's cpu_thermal and rpi_volt",
			Datasheet: "Documentation/hwmon/sysfs-interface.rst",
			Wiring:    "as the kernel's overlay says: dtoverlay=i2c-sensor,lm75 and so on in config.txt",
			Options: []sensors.Option{
				{Name: "device", Kind: sensors.OptionString, Required: true, Doc: "name of the device, as in /sys/class/hwmon/*/name"},
				atOption, channelsOption,
			},
			Timeout: 2 * time.Second,
		},
		QuantitiesOf: func(map[string]any) []sensors.Quantity {
			return nil // the device knows
		},
		Find: named("class/hwmon/hwmon*/name", "device"),
		Open: openHwmon,
	}
}

// hwmonTypes are the kinds of values, in the order in which they are reported, and what of each can be true at all.
var hwmonTypes = []struct {
	file       *regexp.Regexp
	name, unit string
	factor     float64
	low, high  float64 // in our unit
}{
	{regexp.MustCompile(`^(temp(\d+))_input$`), "temperature", "°C", 1e-3, -273.15, 2500},
	{regexp.MustCompile(`^(humidity(\d+))_input$`), "humidity", "%", 1e-3, -6, 119},
	{regexp.MustCompile(`^(in(\d+))_input$`), "voltage", "V", 1e-3, -10e3, 10e3},
	{regexp.MustCompile(`^(curr(\d+))_input$`), "current", "A", 1e-3, -10e3, 10e3},
	{regexp.MustCompile(`^(power(\d+))_(?:input|average)$`), "power", "W", 1e-6, -10e6, 10e6},
	{regexp.MustCompile(`^(energy(\d+))_input$`), "energy", "J", 1e-6, -1e15, 1e15},
	{regexp.MustCompile(`^(fan(\d+))_input$`), "fan", "rpm", 1, 0, 1e6},
}

func openHwmon(_ context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	s := &kernelSensor{sys: sys, name: stringOption(c, "device")}
	dir, err := findDevice(sys, "class/hwmon/hwmon*", s.name, stringOption(c, "at"),
		"add its dtoverlay to config.txt, or check the wiring: dmesg says why a driver gave up")
	if err != nil {
		return nil, err
	}
	s.identity = path.Join(dir, "name")
	entries, err := fs.ReadDir(sys, dir)
	if err != nil {
		return nil, err
	}
	for _, t := range hwmonTypes {
		first := len(s.channels)
		for _, e := range entries {
			m := t.file.FindStringSubmatch(e.Name())
			if m == nil {
				continue
			}
			ch := channel{
				Quantity: sensors.Quantity{Name: t.name + m[2], Unit: t.unit, Min: t.low, Max: t.high}, names: []string{m[1], t.name + m[2]},
				files: []string{path.Join(dir, e.Name())}, decode: scaled(t.factor),
			}
			// tempN_fault and fanN_fault: the value beside a 1 is none.
			if fault := path.Join(dir, m[1]+"_fault"); slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == m[1]+"_fault" }) {
				ch.files = append(ch.files, fault) // read after the value
				ch.decode = unlessFault(ch.names[1], ch.decode)
			}
			if label, err := bus.ReadFile(sys, path.Join(dir, m[1]+"_label")); err == nil && inTopic(label) != "" {
				ch.Name = t.name + "_" + inTopic(label)
			}
			s.channels = append(s.channels, ch)
		}
		if len(s.channels) == first+1 && s.channels[first].names[1] == s.channels[first].Name {
			s.channels[first].Name = t.name // the only one needs no number
		}
	}
	unique(s.channels)
	return s, s.choose(stringsOption(c, "channels"))
}

// unlessFault is a decode whose last text is that of a fault file.
func unlessFault(name string, decode func([]string) (float64, error)) func([]string) (float64, error) {
	return func(texts []string) (float64, error) {
		switch last := len(texts) - 1; texts[last] {
		case "0":
			return decode(texts[:last])
		case "1":
			return 0, fmt.Errorf("the kernel says that %s is faulty: check the diode, thermocouple or fan behind it, or leave it out with channels", name)
		default:
			return 0, fmt.Errorf("got %.20q as the fault of %s, want 0 or 1", texts[last], name)
		}
	}
}
