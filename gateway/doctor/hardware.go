package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
	"holdfast/sensors/scan"
)

// user: what is found out about permissions is true only of the user that looks.
func (e *examination) user(context.Context) {
	groups, err := e.m.Groups()
	switch {
	case err != nil:
		e.add(Warn, "id", "groups cannot be told: %v", err)
	case e.m.UserID == 0:
		e.add(Warn, "sudo -u holdfast holdfast doctor", "runs as root, who may do everything: what the service may do is not known")
	default:
		e.ok("uid %d, groups %s", e.m.UserID, strings.Join(groups, " "))
	}
}

// part is a sensor or an output.
type part struct {
	what, name, bus string
	address         uint16
	driver          *sensors.Spec
	findable        bool // the driver can list what it could read
	claims          []sensors.Claim
}

func (p part) String() string { return p.what + " " + p.name }

// parts are those that need hardware.
func (e *examination) parts() (all []part) {
	add := func(what, name, busName string, address uint16, d *sensors.Spec, findable bool, options map[string]any) {
		if bus.IsSimulated(busName) {
			return
		}
		if address == 0 && len(d.Addresses) > 0 {
			address = d.Addresses[0]
		}
		claims, _ := d.ClaimsAt(busName, address, options) // the configuration was checked
		all = append(all, part{what, name, busName, address, d, findable, claims})
	}
	for _, c := range e.Config.Sensors {
		if i := slices.IndexFunc(e.Drivers, func(d sensors.Driver) bool { return d.Name == c.Driver }); i >= 0 {
			d := &e.Drivers[i]
			add("sensor", c.Name, c.Bus, c.Address, &d.Spec, d.Find != nil, c.Options)
		}
	}
	for _, c := range e.Config.Outputs {
		if d := outputs.FindDriver(c.Driver); d != nil {
			add("output", c.Name, c.Bus, c.Address, &d.Spec, false, c.Options)
		}
	}
	return all
}

const reboot = ", then reboot"

// device is the file that a part needs, and how to get it.
func (e *examination) device(p part) (path, remedy string) {
	number := strings.TrimPrefix(bus.Shared(p.bus), "i2c-")
	switch p.driver.Kind(p.bus) {
	case sensors.BusI2C:
		path = "/dev/i2c-" + number
		switch {
		case strings.Contains("\n"+e.bootConfig(), "\ndtparam=i2c_arm=on") && number == "1":
			remedy = "sudo modprobe i2c-dev, and reboot if that does not help: I2C is switched on, but not there"
		case number == "1":
			remedy = "sudo raspi-config nonint do_i2c 0" + reboot + " (or dtparam=i2c_arm=on in /boot/firmware/config.txt)"
		default:
			remedy = "add dtoverlay=i2c" + number + " to /boot/firmware/config.txt" + reboot + " (holdfast scan lists the buses there are)"
		}
	case sensors.BusSPI:
		path = "/dev/spidev" + strings.TrimPrefix(p.bus, "spi-")
		remedy = "sudo raspi-config nonint do_spi 0" + reboot + " (or dtparam=spi=on in /boot/firmware/config.txt)"
	case sensors.BusUART:
		path = p.bus
		remedy = "sudo raspi-config nonint do_serial_hw 0 and sudo raspi-config nonint do_serial_cons 1" + reboot + "; for a USB adapter: is it plugged in?"
	case sensors.BusW1:
		path = "/sys/bus/w1/devices"
		remedy = "sudo raspi-config nonint do_onewire 0" + reboot + " (or dtoverlay=w1-gpio in /boot/firmware/config.txt)"
	case sensors.BusGPIO:
		if path = "/" + e.first("dev/gpiochip*"); path == "/" {
			path = "/dev/gpiochip0"
		}
		remedy = "the kernel shows no GPIO lines: is this a Pi, with a kernel of 4.8 or later?"
	}
	return path, remedy
}

func (e *examination) bootConfig() string {
	return e.read("boot/firmware/config.txt") + e.read("boot/config.txt")
}

// buses: are the device files there, and may this user open them?
func (e *examination) buses(context.Context) {
	users := map[string][]string{} // of each file
	remedies := map[string]string{}
	var paths []string
	for _, p := range e.parts() {
		path, remedy := e.device(p)
		if path == "" {
			continue
		}
		if users[path] == nil {
			paths = append(paths, path)
		}
		users[path] = append(users[path], p.String())
		remedies[path] = remedy
	}
	if len(paths) == 0 {
		e.ok("no sensor or output needs one")
	}
	for _, path := range paths {
		who := strings.Join(users[path], ", ")
		if !e.exists(path) {
			e.add(Fail, remedies[path], "%s is not there: %s", path, who)
			continue
		}
		if strings.HasPrefix(path, "/sys/") {
			e.ok("%s: %s", path, who) // readable for all
			e.commonConversion()
			continue
		}
		if err := e.m.Access(path); err != nil {
			group := e.m.Group(path)
			remedy := fmt.Sprintf("sudo usermod -aG %s USER, and log in again; for the service: SupplementaryGroups=%s in sudo systemctl edit holdfast", group, group)
			if group == "root" || group == "" {
				remedy = "no group may open it: a udev rule has to give it to one, as Raspberry Pi OS does in /etc/udev/rules.d/99-com.rules"
			}
			e.add(Fail, remedy, "%s may not be opened (%v), it belongs to group %s: %s", path, err, group, who)
			continue
		}
		e.ok("%s: %s", path, who)
	}
	for _, path := range paths {
		tty := strings.TrimPrefix(path, "/dev/")
		if console := strings.Contains(e.read("proc/cmdline"), "console="+tty+","); console {
			e.add(Fail, "sudo raspi-config nonint do_serial_cons 1"+reboot, "%s is the kernel's console, which writes to the sensor: %s", path, strings.Join(users[path], ", "))
		}
	}
}

// commonConversion is a right that driver w1 can do without, slowly.
func (e *examination) commonConversion() {
	if !slices.ContainsFunc(e.Config.Sensors, func(c sensors.Config) bool { return c.Driver == "w1" && !bus.IsSimulated(c.Bus) }) {
		return
	}
	files, _ := fs.Glob(e.m.Root, "sys/bus/w1/devices/w1_bus_master*/therm_bulk_read")
	for _, f := range files {
		if err := e.m.Access("/" + f); err != nil {
			e.add(Warn, "the package's udev rule gives it to the group gpio (/usr/lib/udev/rules.d/60-holdfast.rules, then sudo udevadm trigger --subsystem-match=w1)",
				"/%s may not be written (%v): each thermometer converts by itself, in 0.75 s", f, err)
		}
	}
}

// wiring compares what answers with what is configured.
func (e *examination) wiring(ctx context.Context) {
	all := e.parts()
	needed := slices.ContainsFunc(all, func(p part) bool {
		return p.driver.Kind(p.bus) == sensors.BusI2C || p.driver.Has(sensors.BusW1) || p.driver.Has(sensors.BusGPIO)
	})
	if !needed {
		e.ok("nothing that can be looked for is configured")
		return
	}
	r, err := e.m.Scan(ctx)
	if err != nil {
		e.add(Fail, "holdfast scan", "the scan failed: %v", err)
		return
	}
	for _, n := range r.Notes {
		if strings.Contains(n, "hangs") {
			e.add(Fail, "switch the power of the chips off and on; look for a short or a missing pull-up; unplug one after the other", "%s", n)
		}
	}
	found := map[string]scan.Found{}
	for _, f := range r.Found {
		if f.Bus != "" {
			found[place(f.Bus, f.Address)] = f
		}
	}
	expected := map[string]bool{}
	for _, p := range all {
		if path, _ := e.device(p); path != "" && !e.exists(path) {
			continue // that is said already
		}
		switch p.driver.Kind(p.bus) {
		case sensors.BusI2C:
			e.wired(p, found, expected)
		case sensors.BusW1:
			if p.findable && !slices.ContainsFunc(r.Found, func(f scan.Found) bool { return slices.Contains(f.Drivers, p.driver.Name) }) {
				e.add(Fail, p.driver.Wiring, "%s: no %s is on the bus", p, p.driver.Name)
			}
		}
	}
	e.lines(all, r.Lines)
	for _, f := range r.Found {
		if f.Bus == "" || expected[place(f.Bus, f.Address)] || f.Note != "" {
			continue // what a kernel driver has may be read through iio and hwmon
		}
		what := f.Chip
		if what == "" {
			what = "something"
		}
		if len(f.Drivers) > 0 && !f.Sure {
			what += ", perhaps " + strings.Join(f.Drivers, " or ")
		}
		e.add(Warn, "holdfast scan prints what to add to the configuration", "%s answers at %s and is not configured", what, place(f.Bus, f.Address))
	}
}

// lines finds GPIO lines that another program or the kernel holds.
func (e *examination) lines(all []part, gpio []bus.GPIOChip) {
	holders := map[string]string{}
	for _, chip := range gpio {
		label := chip.Label
		if bus.IsHeader(label) {
			label = ""
		}
		for _, l := range chip.Lines {
			if l.Consumer != "" && l.Consumer != bus.Consumer {
				holders[sensors.LineName("", label, l.Offset)] = l.Consumer
			}
		}
	}
	for _, p := range all {
		for _, c := range p.claims {
			if who, held := holders[c.What]; held && !c.Wired {
				e.add(Fail, "end that program, or remove the dtoverlay that takes the line from /boot/firmware/config.txt"+reboot+", or choose another line: holdfast scan lists them", "%s: %s is held by %s", p, c.What, who)
			}
		}
	}
}

func place(busName string, address uint16) string { return fmt.Sprintf("%s %#02x", busName, address) }

// wired looks for one chip on I2C.
func (e *examination) wired(p part, found map[string]scan.Found, expected map[string]bool) {
	at := place(p.bus, p.address)
	if upper, channel, muxed := strings.Cut(p.bus, "/"); muxed {
		// What is behind a multiplexer is not scanned, but the multiplexer itself answers.
		mux, _, _ := strings.Cut(channel, "/")
		address, _ := strconv.ParseUint(mux, 0, 8)
		at = place(upper, uint16(address))
		expected[at] = true
		if _, ok := found[at]; !ok {
			e.add(Fail, "check its power and its address pins A0 to A2", "%s: the multiplexer at %s does not answer", p, at)
		} else {
			e.ok("%s: the multiplexer at %s answers", p, at)
		}
		return
	}
	expected[at] = true
	f, answers := found[at]
	switch {
	case !answers:
		remedy := p.driver.Wiring
		for _, a := range p.driver.Addresses {
			if other, ok := found[place(p.bus, a)]; ok && slices.Contains(other.Drivers, p.driver.Name) {
				remedy = fmt.Sprintf("write address: %#02x, where one answers", a)
			}
		}
		if remedy == "" {
			remedy = "check power, SDA, SCL and the address pins"
		}
		e.add(Fail, remedy, "%s: no %s answers at %s", p, p.driver.Name, at)
	case f.Note != "":
		e.add(Fail, "remove its dtoverlay from /boot/firmware/config.txt"+reboot+", or read it with driver iio or hwmon", "%s: a kernel driver (%s) has %s", p, f.Chip, at)
	case f.Sure && !slices.Contains(f.Drivers, p.driver.Name) && !e.shares(f.Drivers, p.driver):
		e.add(Fail, "change driver or address: holdfast scan prints what is there", "%s: at %s answers a %s, where a %s is configured", p, at, f.Chip, p.driver.Name)
	default:
		e.ok("%s answers at %s", p, at)
	}
}

// shares: an output, such as a PCA9685, has no driver among the sensors that could recognise it.
func (e *examination) shares(names []string, d *sensors.Spec) bool {
	return len(names) == 0 || !slices.ContainsFunc(e.Drivers, func(o sensors.Driver) bool { return o.Name == d.Name })
}

// power reads what the firmware says: bits of get_throttled, now and since the start (16 higher).
func (e *examination) power(context.Context) {
	const supply = "a power supply of 5.1 V and enough ampere, a short thick cable, fewer devices on USB"
	name := e.first("sys/devices/platform/soc/soc:firmware/get_throttled", "sys/devices/platform/*/*/get_throttled", "sys/devices/platform/*/get_throttled")
	if name == "" {
		names, _ := fs.Glob(e.m.Root, "sys/class/hwmon/hwmon*/name")
		for _, n := range names {
			if e.read(n) != "rpi_volt" {
				continue
			}
			if e.read(strings.TrimSuffix(n, "name")+"in0_lcrit_alarm") != "0" {
				e.add(Fail, supply, "under-voltage: readings go wrong, and the card may be damaged")
			} else {
				e.ok("no under-voltage")
			}
			return
		}
		e.ok("this machine does not tell")
		return
	}
	bits, err := strconv.ParseUint(strings.TrimPrefix(e.read(name), "0x"), 16, 32)
	if err != nil {
		e.add(Warn, "vcgencmd get_throttled", "/%s: got %.20q, want a number", name, e.read(name))
		return
	}
	before := len(e.findings)
	for _, b := range []struct {
		bit          uint
		text, remedy string
	}{
		{0, "under-voltage", supply},
		{1, "the processor is slowed down", supply + "; cooling"},
		{2, "the processor is throttled", supply + "; cooling"},
		{3, "the processor is at its temperature limit", "a heat sink, a fan, or a place out of the sun"},
	} {
		switch {
		case bits>>b.bit&1 == 1 && b.bit == 0:
			e.add(Fail, b.remedy, "%s now: readings go wrong, and the card may be damaged", b.text)
		case bits>>b.bit&1 == 1:
			e.add(Warn, b.remedy, "%s now", b.text)
		case bits>>(b.bit+16)&1 == 1:
			e.add(Warn, b.remedy, "%s since the start, not now", b.text)
		}
	}
	if len(e.findings) == before {
		e.ok("no under-voltage and no throttling since the start")
	}
}
