package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/diagnose"
	"holdfast/gateway/config"
	"holdfast/gateway/status"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/scan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var today = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

const device = `device: {id: pi}
data_dir: /var/lib/holdfast
broker:
  listeners:
    - url: mqtt://127.0.0.1:1883
    - url: unix:///run/holdfast/mqtt.sock
    - {url: "mqtts://127.0.0.1:8883", cert: server.crt, key: server.key}
bridges:
  - name: cloud
    upstream: ["mqtt://broker.example:1883"]
    username: pi
    password: ${file:password}
    out: [{filter: "sensors/#"}]
sensors:
  - {name: air, driver: bme280, bus: i2c-1, address: 0x76}
  - {name: tank, driver: ads1115, bus: i2c-1/0x70/3}
  - {name: soil, driver: ds18b20}
  - {name: dust, driver: sds011, bus: /dev/serial0}
  - {name: level, driver: mcp3008, bus: spi-0.0}
  - {name: spare, driver: bme280, bus: simulated}
outputs:
  - {name: pump, driver: gpio-output, line: 17, safe: off}
`

// pi is a machine on which all is well. Each case spoils something of it.
type pi struct {
	m       Machine
	files   fstest.MapFS
	scan    scan.Result
	dir     string // of the configuration
	systemd map[string]string
	steps   []diagnose.Step
	tried   error
	listen  map[string]error
	denied  map[string]error
	status  *status.Status // nil while no gateway runs
}

func newPi(t *testing.T) *pi {
	p := &pi{files: fstest.MapFS{}, dir: t.TempDir(), listen: map[string]error{}, denied: map[string]error{}}
	for name, text := range map[string]string{
		"dev/i2c-1": "", "dev/spidev0.0": "", "dev/serial0": "", "dev/gpiochip0": "", "dev/watchdog0": "",
		"sys/bus/w1/devices/28-0316a2795bff/name": "28-0316a2795bff",
		"run/systemd/system/x":                    "", "run/holdfast/x": "",
		"sys/devices/platform/soc/soc:firmware/get_throttled": "0x0\n",
		"sys/class/rtc/rtc0/name":                             "rtc",
		"sys/block/mmcblk0/device/life_time":                  "0x01 0x02\n",
		"sys/block/mmcblk0/device/pre_eol_info":               "0x01\n",
		"sys/block/mmcblk0/device/name":                       "SE32G\n",
		"sys/block/mmcblk0boot0/device/life_time":             "0x0b 0x0b\n",
		"proc/mounts":              "/dev/root / ext4 rw 0 0\nproc /proc proc rw 0 0\n",
		"proc/cmdline":             "console=tty1 root=PARTUUID=1",
		"proc/net/tcp":             "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 4711 1\n   1: 0100007F:075B 0100007F:C000 01 00000000:00000000 00:00000000 00000000   104        0 99 1\n",
		"proc/812/comm":            "mosquitto\n",
		"boot/firmware/config.txt": "dtparam=audio=on\n",
		"var/lib/holdfast/journal/0000000000000001.seg": strings.Repeat("x", 4096),
	} {
		p.files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	p.files["proc/812/fd/5"] = &fstest.MapFile{Data: []byte("socket:[4711]"), Mode: fs.ModeSymlink | 0o777}
	p.scan.Found = []scan.Found{
		{Bus: "i2c-1", Address: 0x76, Chip: "BME280", Drivers: []string{"bme280"}, Sure: true},
		{Bus: "i2c-1", Address: 0x70},
		{Chip: "ds18b20", Drivers: []string{"ds18b20", "w1"}, Sure: true},
	}
	p.steps = []diagnose.Step{
		{Name: "name", Outcome: diagnose.OK, Answer: "broker.example: 192.0.2.7"}, {Name: "tcp", Outcome: diagnose.OK, Answer: "192.0.2.7:1883, in 20ms"},
		{Name: "connect", Outcome: diagnose.OK, Answer: "accepted, MQTT 5, client pi-test, user pi"},
		{Name: "clock", Outcome: diagnose.Warning, Answer: "offset unknown: the upstream does not tell the time"},
	}
	p.systemd = map[string]string{
		"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "SubState": "running", "Result": "success",
		"NRestarts": "0", "WatchdogUSec": "30s", "RuntimeWatchdogUSec": "15s",
	}
	p.status = &status.Status{Bridges: []status.Bridge{{Name: "cloud", Connected: true}}}
	p.m = Machine{
		Root: p.files, Now: func() time.Time { return today }, UserID: 999,
		Groups: func() ([]string, error) { return []string{"gpio", "holdfast", "i2c"}, nil },
		Access: func(path string) error { return p.denied[path] },
		Group: func(path string) string {
			return map[string]string{"/dev/i2c-1": "i2c", "/dev/serial0": "dialout"}[path]
		},
		Synced: func() (bool, error) { return true, nil },
		Disk:   func(string) (int64, int64, error) { return 32 << 30, 20 << 30, nil },
		Sync: func(string) (time.Duration, time.Duration, error) {
			return 4 * time.Millisecond, 9 * time.Millisecond, nil
		},
		Listen: func(_, address string) error { return p.listen[address] },
		Try: func(_ context.Context, _ *config.Config, _ string, address func(string), report func(diagnose.Step)) error {
			address("mqtt://broker.example:1883")
			for _, s := range p.steps {
				report(s)
			}
			return p.tried
		},
		Scan: func(context.Context) (*scan.Result, error) { return &p.scan, nil },
		Status: func(context.Context, *config.Config) (*status.Status, error) {
			if p.status == nil {
				return nil, errors.New("holdfast does not run")
			}
			return p.status, nil
		},
		Run: func(_ context.Context, name string, args ...string) (string, error) {
			if name != "systemctl" {
				return "log of the gateway with s3cret in it\n", nil
			}
			var b strings.Builder
			for _, k := range slices.Sorted(maps.Keys(p.systemd)) {
				fmt.Fprintf(&b, "%s=%s\n", k, p.systemd[k])
			}
			return b.String(), nil
		},
	}
	p.write(t, "password", "s3cret\n")
	p.certificate(t, today.AddDate(0, 0, -1), today.AddDate(1, 0, 0))
	p.write(t, "pi.yaml", device)
	return p
}

func (p *pi) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificate makes one of its own key.
func (p *pi) certificate(t *testing.T, from, to time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, DNSNames: []string{"pi"}}
	cert, err1 := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	p.write(t, "server.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	p.write(t, "server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// revoke gives the listener an authority, with a CRL that is due to be replaced at a time.
func (p *pi) revoke(t *testing.T, next time.Time) {
	t.Helper()
	ca := brokertest.NewAuthority(t)
	p.write(t, "ca.crl", string(ca.Revoke(next)))
	p.write(t, "pi.yaml", strings.Replace(device, "key: server.key}", "key: server.key, ca: "+ca.File+", crl: ca.crl}", 1))
}

func (p *pi) subject() Subject {
	s := Subject{Files: []string{filepath.Join(p.dir, "pi.yaml")}, Drivers: chips.Drivers()}
	s.Config, s.Err = config.Load(s.Files, config.Options{Drivers: s.Drivers, Outputs: outputs.Drivers()})
	return s
}

func (p *pi) examine() []Finding { return Examine(context.Background(), p.subject(), p.m) }

// text is what a person reads, without the place of the test's files.
func (p *pi) text(fs []Finding) string {
	var b bytes.Buffer
	Print(&b, fs)
	return strings.ReplaceAll(b.String(), p.dir+"/", "")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(name); err != nil || string(want) != got {
		t.Errorf("%v: got\n%s\nwant (-update)\n%s", err, got, want)
	}
}

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
