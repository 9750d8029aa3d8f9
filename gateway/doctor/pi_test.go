package doctor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
