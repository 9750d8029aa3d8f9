package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/broker/diagnose"
	"holdfast/sensors/bus"
	"holdfast/sensors/scan"
)

func TestAllIsWell(t *testing.T) {
	p := newPi(t)
	fs := p.examine()
	for _, f := range fs {
		if f.Level != OK {
			t.Errorf("%+v", f)
		}
	}
	golden(t, "well.golden", p.text(fs))
}

// ills is one row for each way in which something can be wrong.
var ills = []struct {
	name  string
	spoil func(t *testing.T, p *pi)
	level Level
	check string
	want  string // in the text or the remedy
}{
	{"no file", func(t *testing.T, p *pi) { os.Remove(filepath.Join(p.dir, "pi.yaml")) }, Fail, "configuration", "no such file"},
	{"a mistake", func(t *testing.T, p *pi) { p.write(t, "pi.yaml", "journal: {max_siz: 1GiB}\n") }, Fail, "configuration", `did you mean "max_size"?`},
	{"an unreadable file", func(t *testing.T, p *pi) {
		p.write(t, "pi.yaml", strings.Replace(device, "broker:\n", "broker:\n  password_file: none\n  acl: [{topic: \"#\", access: read}]\n", 1))
	}, Fail, "configuration", "chmod 640"},
	{"a password for all to read", func(t *testing.T, p *pi) {
		p.write(t, "pi.yaml", strings.Replace(device, "${file:password}", "s3cret", 1))
		os.Chmod(filepath.Join(p.dir, "pi.yaml"), 0o644)
	}, Warn, "configuration", "has a password in it"},
	{"root", func(t *testing.T, p *pi) { p.m.UserID = 0 }, Warn, "user", "sudo -u holdfast"},
	{"no groups", func(t *testing.T, p *pi) { p.m.Groups = func() ([]string, error) { return nil, errors.New("no") } }, Warn, "user", "cannot be told"},
	{"no unit", func(t *testing.T, p *pi) { p.systemd["LoadState"] = "not-found" }, Warn, "service", "no unit"},
	{"failed", func(t *testing.T, p *pi) { p.systemd["ActiveState"] = "failed"; p.systemd["Result"] = "exit-code" }, Fail, "service", "failed: exit-code"},
	{"starts again and again", func(t *testing.T, p *pi) { p.systemd["ActiveState"] = "activating" }, Fail, "service", "does not stay"},
	{"stopped", func(t *testing.T, p *pi) { p.systemd["ActiveState"] = "inactive" }, Warn, "service", "systemctl start"},
	{"restarts", func(t *testing.T, p *pi) { p.systemd["NRestarts"] = "7" }, Warn, "service", "7 times"},
	{"not enabled", func(t *testing.T, p *pi) { p.systemd["UnitFileState"] = "disabled" }, Warn, "service", "systemctl enable"},
	{"no watchdog", func(t *testing.T, p *pi) { p.systemd["WatchdogUSec"] = "0" }, Warn, "service", "WatchdogSec="},
	{"systemd is silent", func(t *testing.T, p *pi) {
		p.m.Run = func(context.Context, string, ...string) (string, error) { return "", errors.New("no answer") }
	}, Warn, "service", "does not answer"},
	{"I2C off", func(t *testing.T, p *pi) { delete(p.files, "dev/i2c-1") }, Fail, "buses", "raspi-config nonint do_i2c 0"},
	{"I2C on, and no module", func(t *testing.T, p *pi) {
		delete(p.files, "dev/i2c-1")
		p.files["boot/firmware/config.txt"] = &fstest.MapFile{Data: []byte("x=1\ndtparam=i2c_arm=on\n")}
	}, Fail, "buses", "modprobe i2c-dev"},
	{"another I2C bus", func(t *testing.T, p *pi) {
		p.write(t, "pi.yaml", strings.Replace(device, "bus: i2c-1,", "bus: i2c-3,", 1))
	}, Fail, "buses", "dtoverlay=i2c3"},
	{"SPI off", func(t *testing.T, p *pi) { delete(p.files, "dev/spidev0.0") }, Fail, "buses", "do_spi 0"},
	{"serial port off", func(t *testing.T, p *pi) { delete(p.files, "dev/serial0") }, Fail, "buses", "do_serial_hw 0"},
	{"serial console", func(t *testing.T, p *pi) {
		p.files["proc/cmdline"] = &fstest.MapFile{Data: []byte("console=serial0,115200 console=tty1")}
	}, Fail, "buses", "do_serial_cons 1"},
	{"1-Wire off", func(t *testing.T, p *pi) { delete(p.files, "sys/bus/w1/devices/28-0316a2795bff/name") }, Fail, "buses", "do_onewire 0"},
	{"no GPIO", func(t *testing.T, p *pi) { delete(p.files, "dev/gpiochip0") }, Fail, "buses", "is this a Pi"},
	{"not in the group", func(t *testing.T, p *pi) { p.denied["/dev/i2c-1"] = syscall.EACCES }, Fail, "buses", "usermod -aG i2c"},
	{"nobody's device", func(t *testing.T, p *pi) { p.denied["/dev/spidev0.0"] = syscall.EACCES }, Fail, "buses", "udev rule"},
	{"no scan", func(t *testing.T, p *pi) {
		p.m.Scan = func(context.Context) (*scan.Result, error) { return nil, errors.New("none") }
	}, Fail, "wiring", "the scan failed"},
	{"a hung bus", func(t *testing.T, p *pi) { p.scan.Notes = []string{"i2c-1: stopped at 0x40: the bus hangs"} }, Fail, "wiring", "unplug"},
	{"unplugged", func(t *testing.T, p *pi) { p.scan.Found = p.scan.Found[1:] }, Fail, "wiring", "no bme280 answers at i2c-1 0x76"},
	{"at the other address", func(t *testing.T, p *pi) { p.scan.Found[0].Address = 0x77 }, Fail, "wiring", "write address: 0x77"},
	{"another chip", func(t *testing.T, p *pi) {
		p.scan.Found[0].Chip, p.scan.Found[0].Drivers = "BMP280", []string{"bmp280"}
	}, Fail, "wiring", "a BMP280, where a bme280 is configured"},
	{"a kernel driver has it", func(t *testing.T, p *pi) {
		p.scan.Found[0] = scan.Found{Bus: "i2c-1", Address: 0x76, Chip: "bme280", Note: "a kernel driver has it"}
	}, Fail, "wiring", "remove its dtoverlay"},
	{"no multiplexer", func(t *testing.T, p *pi) { p.scan.Found = slices.Delete(p.scan.Found, 1, 2) }, Fail, "wiring", "the multiplexer at i2c-1 0x70"},
	{"no thermometer", func(t *testing.T, p *pi) { p.scan.Found = p.scan.Found[:2] }, Fail, "wiring", "no ds18b20 is on the bus"},
	{"one too many", func(t *testing.T, p *pi) {
		p.scan.Found = append(p.scan.Found, scan.Found{Bus: "i2c-1", Address: 0x23, Drivers: []string{"bh1750"}})
	}, Warn, "wiring", "something, perhaps bh1750 answers at i2c-1 0x23"},
	{"a line that is held", func(t *testing.T, p *pi) {
		p.scan.Lines = []bus.GPIOChip{{Name: "gpiochip0", Label: "pinctrl-rp1", Lines: []bus.GPIOLine{{Offset: 4, Consumer: "onewire@0"}, {Offset: 17, Consumer: "gpio-fan"}}}}
	}, Fail, "wiring", "output pump: GPIO line 17 is held by gpio-fan"},
	{"two on one line", func(t *testing.T, p *pi) {
		p.write(t, "pi.yaml", device+"  - {name: horn, driver: gpio-output, line: 17, safe: off}\n")
	}, Fail, "configuration", "outputs[pump] has GPIO line 17 already"},
	{"a line of a bus", func(t *testing.T, p *pi) {
		p.write(t, "pi.yaml", device+"  - {name: horn, driver: gpio-output, line: 2, safe: off}\n")
	}, Fail, "configuration", "GPIO line 2 is SDA of i2c-1"},
	{"no common conversion", func(t *testing.T, p *pi) {
		p.write(t, "pi.yaml", strings.Replace(device, "sensors:\n", "sensors:\n  - {name: pipes, driver: w1, ids: [28-000000000001]}\n", 1))
		p.files["sys/bus/w1/devices/w1_bus_master1/therm_bulk_read"] = &fstest.MapFile{Data: []byte("0\n")}
		p.denied["/sys/bus/w1/devices/w1_bus_master1/therm_bulk_read"] = syscall.EACCES
	}, Warn, "buses", "each thermometer converts by itself"},
	{"under-voltage", func(t *testing.T, p *pi) { p.throttled("50005") }, Fail, "power", "under-voltage now"},
	{"too hot", func(t *testing.T, p *pi) { p.throttled("0x8") }, Warn, "power", "temperature limit now"},
	{"was throttled", func(t *testing.T, p *pi) { p.throttled("40000") }, Warn, "power", "throttled since the start"},
	{"odd firmware", func(t *testing.T, p *pi) { p.throttled("what") }, Warn, "power", "want a number"},
	{"under-voltage by hwmon", func(t *testing.T, p *pi) {
		delete(p.files, "sys/devices/platform/soc/soc:firmware/get_throttled")
		p.files["sys/class/hwmon/hwmon1/name"] = &fstest.MapFile{Data: []byte("rpi_volt\n")}
		p.files["sys/class/hwmon/hwmon1/in0_lcrit_alarm"] = &fstest.MapFile{Data: []byte("1\n")}
	}, Fail, "power", "under-voltage"},
	{"the last century", func(t *testing.T, p *pi) { p.m.Now = func() time.Time { return time.Unix(0, 0) } }, Fail, "clock", "it is 1970-01-01 here"},
	{"no NTP", func(t *testing.T, p *pi) { p.m.Synced = func() (bool, error) { return false, nil } }, Warn, "clock", "set-ntp true"},
	{"no clock", func(t *testing.T, p *pi) { p.m.Synced = func() (bool, error) { return false, syscall.EPERM } }, Warn, "clock", "not known"},
	{"full", func(t *testing.T, p *pi) { p.space(200 << 20) }, Fail, "disk", "messages give way already"},
	{"nearly full", func(t *testing.T, p *pi) { p.space(1 << 30) }, Warn, "disk", "is never reached"},
	{"no disk", func(t *testing.T, p *pi) { p.m.Disk = func(string) (int64, int64, error) { return 0, 0, syscall.EIO } }, Fail, "disk", "input/output error"},
	{"no data_dir", func(t *testing.T, p *pi) { delete(p.files, "var/lib/holdfast/journal/0000000000000001.seg") }, Warn, "disk", "is not there yet"},
	{"somebody else's data_dir", func(t *testing.T, p *pi) { p.denied["/var/lib/holdfast"] = syscall.EACCES }, Fail, "disk", "chown -R holdfast"},
	{"data in memory", func(t *testing.T, p *pi) { p.mount("log2ram /var/lib tmpfs rw 0 0") }, Fail, "disk", "a power cut empties"},
	{"data in the overlay", func(t *testing.T, p *pi) { p.mount("overlayroot / overlay rw 0 0") }, Fail, "disk", "a power cut empties"},
	{"worn out", func(t *testing.T, p *pi) { p.wear("0x0b 0x01", "0x01") }, Fail, "card", "worn out"},
	{"no reserve", func(t *testing.T, p *pi) { p.wear("0x02 0x02", "0x03") }, Fail, "card", "reserve 3"},
	{"nearly worn out", func(t *testing.T, p *pi) { p.wear("0x09 0x01", "0x01") }, Warn, "card", "up to 90 %"},
	{"read-only", func(t *testing.T, p *pi) { p.files["sys/block/mmcblk0/ro"] = &fstest.MapFile{Data: []byte("1\n")} }, Fail, "card", "takes no more writes"},
	{"slow", func(t *testing.T, p *pi) { p.commits(80*time.Millisecond, nil) }, Warn, "commit", "80ms"},
	{"no sync", func(t *testing.T, p *pi) { p.commits(0, syscall.EIO) }, Fail, "commit", "nothing can be made durable"},
	{"Mosquitto has the port", func(t *testing.T, p *pi) { p.listen["127.0.0.1:1883"] = syscall.EADDRINUSE }, Fail, "ports", "disable --now mosquitto"},
	{"somebody has the port", func(t *testing.T, p *pi) { p.listen["127.0.0.1:8883"] = syscall.EADDRINUSE }, Fail, "ports", "ss -ltnp"},
	{"a low port", func(t *testing.T, p *pi) { p.listen["127.0.0.1:1883"] = syscall.EACCES }, Fail, "ports", "CAP_NET_BIND_SERVICE"},
	{"no such address", func(t *testing.T, p *pi) { p.listen["127.0.0.1:1883"] = syscall.EADDRNOTAVAIL }, Fail, "ports", "ip addr"},
	{"no such host", func(t *testing.T, p *pi) { p.listen["127.0.0.1:1883"] = errors.New("odd") }, Fail, "ports", "odd"},
	{"no directory for the socket", func(t *testing.T, p *pi) { delete(p.files, "run/holdfast/x") }, Fail, "ports", "no directory /run/holdfast"},
	{"expired", func(t *testing.T, p *pi) { p.certificate(t, today.AddDate(-1, 0, 0), today.AddDate(0, 0, -1)) }, Fail, "certificates", "was valid until 2026-11-23"},
	{"not yet valid", func(t *testing.T, p *pi) { p.certificate(t, today.AddDate(0, 0, 1), today.AddDate(1, 0, 0)) }, Fail, "certificates", "look at the clock"},
	{"expires soon", func(t *testing.T, p *pi) { p.certificate(t, today.AddDate(-1, 0, 0), today.AddDate(0, 0, 10)) }, Warn, "certificates", "for 10 days"},
	{"key of another", func(t *testing.T, p *pi) {
		cert, _ := os.ReadFile(filepath.Join(p.dir, "server.crt"))
		p.certificate(t, today, today.AddDate(1, 0, 0))
		p.write(t, "server.crt", string(cert))
	}, Fail, "certificates", "private key does not match"},
	{"a problem of a bridge", func(t *testing.T, p *pi) {
		p.status.Bridges[0].Problems = []string{"the upstream refuses the subscription to \"x\"; allow this user s3cret to read there"}
	}, Fail, "bridges", "bridge cloud: the upstream refuses the subscription to \"x\" allow this user ******** to read there"},
	{"a problem without a remedy", func(t *testing.T, p *pi) { p.status.Bridges[0].Problems = []string{"odd"} }, Fail, "bridges", "holdfast status shows it"},
	{"not connected", func(t *testing.T, p *pi) {
		p.status.Bridges[0].Connected, p.status.Bridges[0].LastError = false, "upstream closed the connection"
	}, Warn, "bridges", "not connected: upstream closed the connection"},
	{"an old CRL", func(t *testing.T, p *pi) { p.revoke(t, today.AddDate(0, 0, -1)) }, Warn, "certificates", "should have been replaced by 2026-11-23"},
	{"no CRL", func(t *testing.T, p *pi) { p.revoke(t, today); os.Remove(filepath.Join(p.dir, "ca.crl")) }, Fail, "certificates", "ca.crl: no such file"},
	{"no such name", func(t *testing.T, p *pi) {
		p.steps = []diagnose.Step{{Name: "name", Outcome: diagnose.Failed, Answer: "broker.example: no such host", Remedy: "correct the host"}, {Name: "tcp", Outcome: diagnose.Skipped, Answer: "not tried"}}
	}, Fail, "upstream", "bridge cloud: mqtt://broker.example:1883: name: broker.example: no such host"},
	{"not readable", func(t *testing.T, p *pi) {
		p.steps = append(p.steps, diagnose.Step{Name: "subscribe", Outcome: diagnose.Warning, Answer: "refused", Remedy: "it can do without"})
	}, Warn, "upstream", "it can do without"},
	{"a wrong clock there", func(t *testing.T, p *pi) {
		p.steps = append(p.steps, diagnose.Step{Name: "clock", Outcome: diagnose.Warning, Answer: "1h0m0s ahead of that of the proxy", Remedy: "one of the two is wrong"})
	}, Warn, "upstream", "1h0m0s ahead"},
	{"a broker that repeats a secret", func(t *testing.T, p *pi) {
		p.steps = []diagnose.Step{{Name: "connect", Outcome: diagnose.Failed, Answer: "bad password s3cret"}}
	}, Fail, "upstream", "bad password ******** holdfast bridge test cloud"},
	{"no rule that can be tried", func(t *testing.T, p *pi) { p.tried = errors.New("odd") }, Fail, "upstream", "bridge cloud: odd"},
	{"to itself", func(t *testing.T, p *pi) {
		p.write(t, "pi.yaml", strings.Replace(device, "broker.example", "localhost", 1))
	}, Fail, "upstream", "own listener"},
	{"hardware watchdog off", func(t *testing.T, p *pi) { p.systemd["RuntimeWatchdogUSec"] = "0" }, Warn, "watchdog", "RuntimeWatchdogSec=15s"},
}

func (p *pi) throttled(bits string) {
	p.files["sys/devices/platform/soc/soc:firmware/get_throttled"] = &fstest.MapFile{Data: []byte(bits + "\n")}
}

func (p *pi) space(free int64) {
	p.m.Disk = func(string) (int64, int64, error) { return 32 << 30, free, nil }
}

func (p *pi) mount(line string) {
	p.files["proc/mounts"] = &fstest.MapFile{Data: []byte("/dev/root / ext4 rw 0 0\n" + line + "\n")}
}

func (p *pi) wear(life, reserve string) {
	p.files["sys/block/mmcblk0/device/life_time"] = &fstest.MapFile{Data: []byte(life + "\n")}
	p.files["sys/block/mmcblk0/device/pre_eol_info"] = &fstest.MapFile{Data: []byte(reserve + "\n")}
}

func (p *pi) commits(took time.Duration, err error) {
	p.m.Sync = func(string) (time.Duration, time.Duration, error) { return took, took, err }
}

func TestEveryIllIsFound(t *testing.T) {
	var all strings.Builder
	for _, ill := range ills {
		t.Run(ill.name, func(t *testing.T) {
			p := newPi(t)
			ill.spoil(t, p)
			found := p.examine()
			bad := slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Level == OK })
			if !slices.ContainsFunc(bad, func(f Finding) bool {
				return f.Check == ill.check && f.Level == ill.level && strings.Contains(f.Text+" "+f.Remedy, ill.want)
			}) {
				t.Errorf("want %s of %s with %q, got\n%s", ill.level, ill.check, ill.want, p.text(found))
			}
			for _, f := range bad {
				if f.Remedy == "" || f.Text == "" {
					t.Errorf("no remedy: %+v", f)
				}
			}
			fmt.Fprintf(&all, "# %s\n%s\n", ill.name, p.text(bad))
		})
	}
	golden(t, "ill.golden", all.String())
}

// TestTheGatewayItselfHasThePort: that is no finding.
func TestTheGatewayItselfHasThePort(t *testing.T) {
	p := newPi(t)
	p.listen["127.0.0.1:1883"] = syscall.EADDRINUSE
	p.files["proc/812/comm"] = &fstest.MapFile{Data: []byte("holdfast\n")}
	if text := p.text(p.examine()); !strings.Contains(text, "the running gateway's (process 812)") {
		t.Error(text)
	}
}

func TestBundleHoldsNoSecret(t *testing.T) {
	p := newPi(t)
	p.write(t, "pi.yaml", strings.Replace(device, "${file:password}", "s3cret # s3cret, was 0ldsecret", 1))
	s := p.subject()
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	var out bytes.Buffer
	if err := Bundle(t.Context(), &out, s, p.m, Examine(t.Context(), s, p.m), "v1", "journal of s3cret"); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(data)
	}
	for name, want := range map[string]string{
		"doctor.txt": "configuration", "doctor.json": `"worst"`, "config/1-pi.yaml": "driver: bme280", "journal.txt": "journal of ********",
		"versions.txt": "holdfast v1", "log.txt": "log of the gateway with ********", "kernel.txt": "log", "service.txt": "ActiveState=active",
	} {
		if !strings.Contains(files["holdfast/"+name], want) {
			t.Errorf("%s: no %q in %q", name, want, files["holdfast/"+name])
		}
	}
	for name, text := range files {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "0ldsecret") {
			t.Errorf("%s holds the secret:\n%s", name, text)
		}
	}
}

// TestHere: the real machine answers every question, whatever it is.
func TestHere(t *testing.T) {
	p := newPi(t)
	p.write(t, "pi.yaml", fmt.Sprintf("data_dir: %s\nbroker: {listeners: [{url: \"mqtt://127.0.0.1:0\"}]}\nweb: {url: off}\n", p.dir))
	found := Examine(t.Context(), p.subject(), Here())
	seen := map[string]Level{}
	for _, f := range found {
		seen[f.Check] = f.Level
	}
	for _, check := range []string{"configuration", "commit", "ports", "upstream"} {
		if seen[check] != OK {
			t.Errorf("%s: %q\n%s", check, seen[check], p.text(found))
		}
	}
	left, err := filepath.Glob(filepath.Join(p.dir, ".doctor-*"))
	if err != nil || len(left) > 0 {
		t.Error("the probe left a file behind", left, err)
	}
}
