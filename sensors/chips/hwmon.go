package chips

import (
	"context"
	"io/fs"
	"path"
	"regexp"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// hwmon reads any device of the kernel's hardware monitoring (Documentation/hwmon/sysfs-interface.rst).
func hwmon() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "hwmon", Doc: "whatever a kernel driver measures through hardware monitoring",
			Chip:      "INA219, INA226, INA3221, LM75, TMP102, SHT3x, SHT4x, EMC2301 fan controllers, NVMe disks, the Pi's cpu_thermal and rpi_volt",
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

// hwmonTypes are the kinds of values, in the order in which they are reported.
var hwmonTypes = []struct {
	file       *regexp.Regexp
	name, unit string
	factor     float64
}{
	{regexp.MustCompile(`^(temp(\d+))_input$`), "temperature", "°C", 1e-3},
	{regexp.MustCompile(`^(humidity(\d+))_input$`), "humidity", "%", 1e-3},
	{regexp.MustCompile(`^(in(\d+))_input$`), "voltage", "V", 1e-3},
	{regexp.MustCompile(`^(curr(\d+))_input$`), "current", "A", 1e-3},
	{regexp.MustCompile(`^(power(\d+))_(?:input|average)$`), "power", "W", 1e-6},
	{regexp.MustCompile(`^(energy(\d+))_input$`), "energy", "J", 1e-6},
	{regexp.MustCompile(`^(fan(\d+))_input$`), "fan", "rpm", 1},
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
				Quantity: sensors.Quantity{Name: t.name + m[2], Unit: t.unit}, names: []string{m[1], t.name + m[2]},
				files: []string{path.Join(dir, e.Name())}, decode: scaled(t.factor),
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
