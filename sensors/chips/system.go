package chips

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// system reads how the machine itself is doing.
func system() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "system", Doc: "the machine itself: load, memory, disk, uptime; on a Pi also under-voltage and throttling, and wear of eMMC where it is shown",
			Chip: "the Pi", Datasheet: "proc(5); Documentation/ABI/testing/sysfs-block, Documentation/driver-api/mmc/mmc-dev-attrs.rst; the firmware's get_throttled",
			Options: []sensors.Option{
				{Name: "path", Kind: sensors.OptionString, Default: "/", Doc: "a file on the file system whose space is reported"},
				channelsOption,
			},
			Timeout: 2 * time.Second,
		},
		QuantitiesOf: func(map[string]any) []sensors.Quantity { return nil }, // the machine knows
		Open:         openSystem,
	}
}

// measure is one thing that the machine shows.
type measure struct {
	sensors.Quantity
	read func() (float64, error)
}

type systemSensor struct{ measures []measure }

func openSystem(ctx context.Context, c sensors.Config, buses *bus.Set) (sensors.Sensor, error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	proc, err := buses.Proc(c.Bus)
	if err != nil {
		return nil, err
	}
	all := procMeasures(proc)
	disk := stringOption(c, "path")
	all = append(all, measure{sensors.Quantity{Name: "disk_free", Unit: "%", Max: 100}, func() (float64, error) {
		size, free, err := buses.Disk(c.Bus, disk)
		if err != nil || size == 0 {
			return 0, err
		}
		return 100 * free / size, nil
	}})
	more, err := boardMeasures(sys)
	if err != nil {
		return nil, err
	}
	s := &systemSensor{append(all, more...)}
	wanted := stringsOption(c, "channels")
	if len(wanted) == 0 {
		return s, context.Cause(ctx)
	}
	var chosen []measure
	var known []string
	for _, m := range s.measures {
		known = append(known, m.Name)
	}
	for _, w := range wanted {
		before := len(chosen)
		for _, m := range s.measures {
			if m.Name == w {
				chosen = append(chosen, m)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("%w: this machine does not show %q, but %s", bus.ErrAbsent, w, strings.Join(known, ", "))
		}
	}
	s.measures = chosen
	return s, nil
}

func procMeasures(proc fs.FS) []measure {
	word := func(file string, n int) func() (float64, error) {
		return func() (float64, error) {
			text, err := bus.ReadFile(proc, file)
			if err != nil {
				return 0, err
			}
			words := strings.Fields(text)
			if len(words) <= n {
				return 0, fmt.Errorf("/proc/%s: got %.40q", file, text)
			}
			return decimal(words[n])
		}
	}
	share := func(part, whole string, used bool) func() (float64, error) {
		return func() (float64, error) {
			m, err := memory(proc)
			if err != nil {
				return 0, err
			}
			if m[whole] == 0 {
				return 0, nil // no swap, for one
			}
			p := 100 * m[part] / m[whole]
			if used {
				p = 100 - p
			}
			return p, nil
		}
	}
	return []measure{
		{sensors.Quantity{Name: "load", Max: 1e5}, word("loadavg", 0)},
		{sensors.Quantity{Name: "load_15min", Max: 1e5}, word("loadavg", 2)},
		{sensors.Quantity{Name: "uptime", Unit: "s", Max: 1e10}, word("uptime", 0)},
		{sensors.Quantity{Name: "memory_available", Unit: "%", Max: 100}, share("MemAvailable", "MemTotal", false)},
		{sensors.Quantity{Name: "swap_used", Unit: "%", Max: 100}, share("SwapFree", "SwapTotal", true)},
	}
}

// memory reads /proc/meminfo, in KiB.
func memory(proc fs.FS) (map[string]float64, error) {
	text, err := bus.ReadFile(proc, "meminfo")
	if err != nil {
		return nil, err
	}
	m := map[string]float64{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), ":")
		if words := strings.Fields(rest); len(words) > 0 {
			m[name], _ = strconv.ParseFloat(words[0], 64)
		}
	}
	if m["MemTotal"] == 0 {
		return nil, fmt.Errorf("/proc/meminfo: no MemTotal in %.60q", text)
	}
	return m, nil
}

// Board returns the flags of power and heat that a machine shows in its /sys, by the names of the driver
// "system", such as undervoltage and undervoltage_since_start. It is empty where the machine shows none.
func Board(sys fs.FS) map[string]bool {
	flags := map[string]bool{}
	measures, _ := boardMeasures(sys)
	for _, m := range measures {
		if m.Unit != "" {
			continue
		}
		if v, err := m.read(); err == nil {
			flags[m.Name] = v == 1
		}
	}
	return flags
}

// boardMeasures are those that only some machines have.
func boardMeasures(sys fs.FS) (all []measure, err error) {
	file := func(name string) func() (string, error) {
		return func() (string, error) { return bus.ReadFile(sys, name) }
	}
	glob := func(patterns ...string) string {
		for _, p := range patterns {
			found, e := fs.Glob(sys, p)
			if e != nil {
				err = e
			}
			if len(found) > 0 {
				return found[0]
			}
		}
		return ""
	}
	// Bits of the firmware's get_throttled: now, and 16 higher since the start.
	if name := glob("devices/platform/soc/soc:firmware/get_throttled", "devices/platform/*/*/get_throttled", "devices/platform/*/get_throttled"); name != "" {
		for bit, what := range []string{"undervoltage", "frequency_capped", "throttled", "temperature_limited"} {
			all = append(all, flag(what, file(name), 16, bit), flag(what+"_since_start", file(name), 16, bit+16))
		}
	} else if names, e := fs.Glob(sys, "class/hwmon/hwmon*/name"); e == nil {
		for _, n := range names {
			if kind, e := bus.ReadFile(sys, n); e == nil && kind == "rpi_volt" {
				all = append(all, flag("undervoltage", file(path.Join(path.Dir(n), "in0_lcrit_alarm")), 10, 0))
			}
		}
	}
	// eMMC: tenths of its life, the worse of two areas; 1 is up to 10 % used (JEDEC JESD84-B51, 7.4.26).
	if name := glob("class/mmc_host/mmc*/mmc*:*/life_time"); name != "" {
		all = append(all, measure{sensors.Quantity{Name: "sd_wear", Unit: "%", Max: 110}, func() (float64, error) {
			text, err := file(name)()
			if err != nil {
				return 0, err
			}
			worst := uint64(0)
			for _, w := range strings.Fields(text) {
				v, err := strconv.ParseUint(w, 0, 8)
				if err != nil {
					return 0, fmt.Errorf("/sys/%s: got %.20q, want two numbers", name, text)
				}
				worst = max(worst, v)
			}
			return 10 * float64(worst), nil
		}})
	}
	// 1 normal, 2 80 % of the reserve is used, 3 90 % (7.4.25).
	if name := glob("class/mmc_host/mmc*/mmc*:*/pre_eol_info"); name != "" {
		all = append(all, measure{sensors.Quantity{Name: "sd_end_of_life", Max: 3}, func() (float64, error) {
			text, err := file(name)()
			if err != nil {
				return 0, err
			}
			v, err := strconv.ParseUint(strings.TrimSpace(text), 0, 8)
			return float64(v), err
		}})
	}
	return all, err
}

// flag is one bit of a number in a file.
func flag(name string, read func() (string, error), base, bit int) measure {
	return measure{sensors.Quantity{Name: name, Max: 1}, func() (float64, error) {
		text, err := read()
		if err != nil {
			return 0, err
		}
		v, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(text), "0x"), base, 32)
		if err != nil {
			return 0, fmt.Errorf("%s: got %.20q, want a number", name, text)
		}
		return float64(v >> bit & 1), nil
	}}
}

func (s *systemSensor) Quantities() (q []sensors.Quantity) {
	for _, m := range s.measures {
		q = append(q, m.Quantity)
	}
	return q
}

func (s *systemSensor) Sense(ctx context.Context) (all []sensors.Measurement, err error) {
	for _, m := range s.measures {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		v, err := m.read()
		if err != nil {
			return nil, err
		}
		all = append(all, sensors.Measurement{Quantity: m.Name, Value: v, Unit: m.Unit})
	}
	return all, nil
}

func (s *systemSensor) Close() error { return nil }
