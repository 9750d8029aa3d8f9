package config

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/broker/dial"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

var update = flag.Bool("update", false, "rewrite the golden file and the README's table of keys")

// drivers is a table with every kind of bus and option.
var drivers = []sensors.Driver{
	{
		Spec: sensors.Spec{
			Name: "bme280", Buses: []sensors.BusKind{sensors.BusI2C, sensors.BusSPI}, Addresses: []uint16{0x76, 0x77},
			Quantities: []sensors.Quantity{{Name: "temperature", Unit: "°C", Min: -40, Max: 85}, {Name: "humidity", Unit: "%", Min: 0, Max: 100}},
		},
	},
	{
		Spec: sensors.Spec{
			Name: "ads1115", Buses: []sensors.BusKind{sensors.BusI2C}, Quantities: []sensors.Quantity{{Name: "voltage", Unit: "V", Min: -6, Max: 6}}, Options: []sensors.Option{
				{Name: "channel", Kind: sensors.OptionString, Required: true, Allowed: []string{"A0", "A1", "A2", "A3"}},
				{Name: "label", Kind: sensors.OptionString},
				{Name: "gain", Kind: sensors.OptionInt, Default: int64(1), Min: 1, Max: 8},
				{Name: "rate", Kind: sensors.OptionInt, Default: int64(128)},
				{Name: "scale", Kind: sensors.OptionFloat, Default: 1.0},
				{Name: "settle", Kind: sensors.OptionDuration, Default: 10 * time.Millisecond},
				{Name: "differential", Kind: sensors.OptionBool, Default: false},
			},
		},
	},
	{Spec: sensors.Spec{Name: "ds18b20", Buses: []sensors.BusKind{sensors.BusW1}}},
	{Spec: sensors.Spec{Name: "button", Buses: []sensors.BusKind{sensors.BusGPIO}, Options: []sensors.Option{{Name: "line", Kind: sensors.OptionString, Required: true}}}},
	{Spec: sensors.Spec{Name: "cpu"}},
	{
		Spec: sensors.Spec{
			Name: "iio", Options: []sensors.Option{
				{Name: "channels", Kind: sensors.OptionStrings},
				{Name: "units", Kind: sensors.OptionMap},
			},
		},
		QuantitiesOf: func(map[string]any) []sensors.Quantity { return nil }, Check: func(c sensors.Config) error {
			if len(c.Options) == 1 {
				return errors.New("channels and units go together")
			}
			return nil
		},
	},
	{Spec: sensors.Spec{Name: "bh1750", Buses: []sensors.BusKind{sensors.BusI2C}, Quantities: []sensors.Quantity{{Name: "illuminance", Unit: "lx", Max: 1e5}}}},
	{Spec: sensors.Spec{Name: "pms5003", Buses: []sensors.BusKind{sensors.BusUART}}},
}

// outputDrivers are those that the tests' files name: messages do not change with every new one.
func outputDrivers() (some []outputs.Driver) {
	for _, d := range outputs.Drivers() {
		if slices.Contains([]string{"gpio-output", "pca9685", "pca9685-servo", "pwm", "servo"}, d.Name) {
			some = append(some, d)
		}
	}
	return some
}

const hidden = "/hidden\x01#"

func options() Options {
	env := map[string]string{"SECRET": hidden, "EVERY": "1m30s", "SETTLE": "5ms", "ID": "from-env", "DOLLAR": "${env:EVERY}$$"}
	return Options{
		Drivers:  drivers,
		Outputs:  outputDrivers(),
		Hostname: func() (string, error) { return "pi", nil },
		Getenv:   func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
}

// load writes each text to a file and loads them in order.
func load(t *testing.T, texts ...string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for i, text := range texts {
		name := filepath.Join(dir, string(rune('a'+i))+".yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	c, err := Load(files, options())
	if err != nil {
		return c, errors.New(strings.ReplaceAll(err.Error(), dir+"/", ""))
	}
	return c, nil
}

var defaultLimits = Limits{
	Connections: 1000, ConnectRate: 100, ConnectRatePerAddress: 20, Sessions: 2000, Subscriptions: 1000, Filters: 5000, Packet: 1 << 20, Inflight: 100,
	TopicLevels: 64, Queued: 1 << 20, QueuedTotal: 6 << 20, Backlog: 256 << 20, Retained: 10_000, RetainedTotal: 4 << 20,
	ConnectTime: 10 * time.Second, WriteTime: 30 * time.Second,
	Matching: 1000, UserShare: 50, Connecting: 200, ConnectPacket: 64 << 10, Unfinished: 2 << 20, Wills: 2 << 20,
	PacketTime: 30 * time.Second, SessionExpiry: 30 * 24 * time.Hour,
}

var localWeb = Web{
	Endpoint: Endpoint{Network: "tcp", Address: "127.0.0.1:4653", URL: "http://127.0.0.1:4653"}, Scheme: "http",
}

var tls12 = Reach{TLS: dial.TLS{MinVersion: tls.VersionTLS12}}

func TestDefaults(t *testing.T) {
	want := &Config{
		Device:  Device{ID: "pi"},
		DataDir: "/var/lib/holdfast", Watch: true,
		Broker: Broker{
			Limits: defaultLimits, TopicAliases: 32, SysInterval: 10 * time.Second,
			Listeners: []Listener{{
				Endpoint: Endpoint{Network: "tcp", Address: "127.0.0.1:1883", URL: "mqtt://127.0.0.1:1883"},
				Scheme:   "mqtt", Mode: 0o660, Anonymous: true,
			}},
		},
		Journal: Journal{
			MaxSize: 2 << 30, KeepFree: 256 << 20, MaxAge: 30 * 24 * time.Hour, DeadLetters: 16 << 20,
			WhenFull: DropOldest, CommitEvery: time.Second,
		},
		Web: localWeb,
	}
	for _, texts := range [][]string{nil, {"{}"}, {"broker: {}\njournal: {}\nbridges: []\nsensors: []\ndevice: {}"}} {
		got, err := load(t, texts...)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v%s", texts, err, differences("", reflect.ValueOf(got), reflect.ValueOf(want)))
		}
	}
}

func TestOverlay(t *testing.T) {
	site, device := "testdata/good/site.yaml", "testdata/good/device.yaml"
	got, err := Load([]string{site, device}, options())
	if err != nil {
		t.Fatal(err)
	}
	tcp := func(address string) Endpoint {
		return Endpoint{Network: "tcp", Address: address, URL: "mqtt://" + address}
	}
	want := &Config{
		Device:  Device{ID: "greenhouse-1"},
		DataDir: "/srv/holdfast", Watch: true,
		Broker: Broker{Limits: defaultLimits, TopicAliases: 32, SysInterval: 10 * time.Second, Listeners: []Listener{
			{Endpoint: tcp("0.0.0.0:1883"), Scheme: "mqtt", Mode: 0o660, Anonymous: true},
			{Endpoint: tcp("[::1]:1884"), Scheme: "mqtt", Mode: 0o660, Anonymous: true},
		}},
		Journal: Journal{
			MaxSize: 4 << 30, KeepFree: 1_500_000_000, MaxAge: 36 * time.Hour,
			WhenFull: RefuseNew, CommitEvery: time.Second, DeadLetters: 16 << 20,
		},
		Bridges: []Bridge{
			{
				Name: "cloud", Upstream: []Endpoint{tcp("broker.example:1883"), tcp("spare.example:1883")},
				ClientID: "greenhouse-1", Protocol: Auto, FailBack: time.Minute, SessionExpiry: 7 * 24 * time.Hour, Username: "site", Password: "s3cret-${env:EVERY}",
				Window: 200, KeepAlive: 30 * time.Second, Priority: 3, Was: "old", Reach: tls12,
				Drain: DrainLiveFirst, DrainShare: 20, Rate: Rate{100, 50_000}, Losses: "sites/north/losses",
				Out: []Rule{
					{Filter: "sensors/+/temperature", QoS: 1, Strip: "sensors/", Priority: 3, Retained: SendRetained},
					{Filter: "alarms/#", QoS: 1, Priority: 3, Retained: SendRetained},
				},
			},
			{
				Name: "lan", Upstream: []Endpoint{tcp("192.168.1.2:1883")}, ClientID: "greenhouse-1-lan", Protocol: Auto, FailBack: time.Minute, SessionExpiry: 7 * 24 * time.Hour,
				Window: 100, KeepAlive: 30 * time.Second, Priority: 1, Out: []Rule{{Filter: "$SYS/#", Priority: 1, Retained: SendRetained}},
				Drain: DrainFIFO, DrainShare: 50, Losses: "holdfast/greenhouse-1/losses", Reach: tls12,
			},
		},
		Sensors: []sensors.Config{
			{
				Name: "air", Driver: "bme280", Bus: "i2c-1", Address: 0x77,
				Every: 90 * time.Second, Timeout: 250 * time.Millisecond, Options: map[string]any{},
			},
			{
				Name: "soil", Driver: "ads1115", Bus: "simulated-2", Every: 10 * time.Second,
				Options: map[string]any{
					"channel": "A1", "gain": int64(1), "rate": int64(128), "scale": 2.0,
					"settle": 5 * time.Millisecond, "differential": false,
				},
			},
		},
		Web: localWeb,
	}
	if len(got.Warnings()) != 2 { // of the password, for each upstream
		t.Errorf("got %v", got.Warnings())
	}
	want.warnings = got.warnings
	if !reflect.DeepEqual(got, want) {
		t.Error(differences("", reflect.ValueOf(got), reflect.ValueOf(want)))
	}
}

// differences names the fields that are not as wanted, with what they have.
func differences(path string, got, want reflect.Value) string {
	switch {
	case got.IsValid() != want.IsValid():
	case got.Kind() == reflect.Pointer && !got.IsNil() && !want.IsNil():
		return differences(path, got.Elem(), want.Elem())
	case got.Kind() == reflect.Struct:
		var text string
		for i := range got.NumField() {
			text += differences(path+"."+got.Type().Field(i).Name, got.Field(i), want.Field(i))
		}
		return text
	case got.Kind() == reflect.Slice && got.Len() == want.Len():
		var text string
		for i := range got.Len() {
			text += differences(fmt.Sprintf("%s[%d]", path, i), got.Index(i), want.Index(i))
		}
		return text
	}
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		return fmt.Sprintf("\n%s: got %s, want %s", path, g, w)
	}
	return ""
}

func TestOverlayReplacesScalarsAndReportsEveryFile(t *testing.T) {
	c, err := load(t, "data_dir: /a\njournal: {max_size: 1GiB}", "data_dir: /b")
	if err != nil || c.DataDir != "/b" || c.Journal.MaxSize != 1<<30 {
		t.Errorf("got %+v, %v", c, err)
	}
	_, err = load(t, "data_dir: 1\njournal: {max_age: 5}", "data_dir: /b\nnonsense: 1", "]")
	want := `a.yaml:1: data_dir: got 1, want a path: put it in quotes
a.yaml:2: journal.max_age: got 5, want a unit after the number: ms, s, m, h or d
b.yaml:2: nonsense: unknown key, want device, data_dir, control, watch, broker, journal, bridges, sensors, retain, outputs or web
c.yaml:1: not YAML, here or in what starts here: did not find expected node content`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestWeb(t *testing.T) {
	const users = `broker: {users: [{name: anna, password_hash: "$argon2id$v=19$m=19456,t=2,p=1$5tUmvnVVJJFVAFXVCtaX0g$9wx2qFnsLyKZxBGbwYRFCAtjGpBHcD8MHTmSYjS7p3U"}], acl: [{topic: "#", access: readwrite}]}
`
	for _, c := range []struct {
		text string
		want Web
	}{
		{`web: {url: off}`, Web{}},
		{`web: {url: ""}`, Web{}},
		{`web: {url: "http://localhost:0"}`, Web{Endpoint: Endpoint{Network: "tcp", Address: "localhost:0", URL: "http://localhost:0"}, Scheme: "http"}},
		{users + `web: {url: "https://:443/", cert: /c, key: /k, view: ["*"], operate: [anna]}`, Web{
			Endpoint: Endpoint{Network: "tcp", Address: ":443", URL: "https://:443"}, Scheme: "https",
			Cert: "/c", Key: "/k", View: []string{"*"}, Operate: []string{"anna"},
		}},
		{users + `web: {operate: [anna]}`, Web{Endpoint: localWeb.Endpoint, Scheme: "http", Operate: []string{"anna"}}},
	} {
		got, err := load(t, c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		} else if !reflect.DeepEqual(got.Web, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.text, got.Web, c.want)
		}
	}
}

func TestListeners(t *testing.T) {
	c, err := load(t, `
broker:
  anonymous: false
  listeners:
    - {url: "mqtt://LOCALHOST:0"}
    - {url: "mqtts://0.0.0.0", cert: server.crt, key: /k, ca: "${env:ID}.crt", crl: ca.crl, require_client_certificate: true}
    - {url: "ws://[::1]/mqtt/", origins: ["https://dash.example", "*"], hosts: [gate.example], anonymous: true}
    - {url: "wss://:9443", cert: c, key: k}
    - {url: "unix:///run/a//b.sock", mode: "0600"}
`, `
broker:
  listeners:
    - {url: "wss://:9443", anonymous: true}
    - {url: "unix:///run/a/b.sock", mode: "0666"}
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range c.Broker.Listeners {
		got = append(got, fmt.Sprintf("%s %s %s %q %s %v %v %o %v %v", l.Network, l.Address, l.URL, l.Path,
			filepath.Base(l.Cert+":"+l.Key+":"+l.CA)+filepath.Base(l.CRL), l.RequireClientCertificate, append(l.Origins, l.Hosts...), l.Mode, l.Anonymous, filepath.IsAbs(l.Cert)))
	}
	want := []string{
		`tcp localhost:0 mqtt://localhost:0 "" ::. false [] 660 false false`,
		`tcp 0.0.0.0:8883 mqtts://0.0.0.0:8883 "" from-env.crtca.crl true [] 660 false true`,
		`tcp [::1]:80 ws://[::1]:80/mqtt "/mqtt" ::. false [https://dash.example * gate.example] 660 true false`,
		`tcp :9443 wss://:9443 "" k:. false [] 660 true true`,
		`unix /run/a/b.sock unix:///run/a/b.sock "" ::. false [] 666 false false`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestBusesAndListeners(t *testing.T) {
	good := `
broker: {listeners: [{url: "mqtt://localhost:0"}, {url: "mqtt://[::1]"}]}
sensors:
  - {name: a, driver: ds18b20}
  - {name: b, driver: ds18b20, bus: w1}
  - {name: c, driver: cpu, bus: simulated}
  - {name: d, driver: button, line: GPIO17}
  - {name: e, driver: bme280, bus: simulated, address: 118}
`
	c, err := load(t, good)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Broker.Listeners[0].Anonymous || !c.Broker.Listeners[1].Anonymous || len(c.Sensors) != 5 || c.Sensors[4].Address != 0x76 {
		t.Errorf("got %+v", c)
	}
	c, err = load(t, "broker: {listeners: []}")
	if err != nil || len(c.Broker.Listeners) != 0 {
		t.Errorf("got %+v, %v, want no listeners", c, err)
	}
}

func TestOutputs(t *testing.T) {
	c, err := load(t, `
bridges: [{name: cloud, upstream: ["mqtt://broker.example"], out: [{filter: "#"}]}]
outputs:
  - {name: up, driver: gpio-output, line: 5, active_low: true, safe: off, interlock: [down], min_off: 3m, max_on: 1h}
  - {name: down, driver: gpio-output, bus: simulated, line: 6, safe: 0}
  - {name: fan, driver: pca9685, bus: i2c-1, channel: 3, safe: 0.25, lease: 1m, link: cloud, link_timeout: 5m}
  - {name: flap, driver: servo, safe: 45, require_time: true, command_expiry: 10s}
  - {name: lamp, driver: pwm, channel: 1, safe: true}
`, `outputs: [{name: lamp, safe: on, frequency: 200}]`)
	if err != nil {
		t.Fatal(err)
	}
	want := []outputs.Config{
		{Name: "up", Driver: "gpio-output", Interlock: []string{"down"}, MinOff: 3 * time.Minute, MaxOn: time.Hour,
			Options: map[string]any{"line": int64(5), "active_low": true, "drive": "push-pull"}},
		{Name: "down", Driver: "gpio-output", Bus: "simulated",
			Options: map[string]any{"line": int64(6), "active_low": false, "drive": "push-pull"}},
		{Name: "fan", Driver: "pca9685", Bus: "i2c-1", Safe: 0.25, Lease: time.Minute, Link: "cloud", LinkTimeout: 5 * time.Minute,
			Options: map[string]any{"channel": int64(3), "frequency": 200.0, "active_low": false}},
		{Name: "flap", Driver: "servo", Safe: 45, RequireTime: true, CommandExpiry: 10 * time.Second,
			Options: map[string]any{"channel": int64(0), "angle": 180.0, "min_pulse": time.Millisecond, "max_pulse": 2 * time.Millisecond}},
		{Name: "lamp", Driver: "pwm", Safe: 1,
			Options: map[string]any{"channel": int64(1), "frequency": 200.0, "active_low": false}},
	}
	for i := range want {
		if want[i].LinkTimeout == 0 {
			want[i].LinkTimeout = 30 * time.Second
		}
		if want[i].CommandExpiry == 0 {
			want[i].CommandExpiry = 30 * time.Second
		}
	}
	if !reflect.DeepEqual(c.Outputs, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.Outputs, want)
	}
}

func TestHostname(t *testing.T) {
	for _, host := range []func() (string, error){
		func() (string, error) { return "", errors.New("no name") },
		func() (string, error) { return "a/b", nil },
	} {
		opts := options()
		opts.Hostname = host
		_, err := Load(nil, opts)
		want := "device.id: missing, and the host name cannot take its place: give it in a configuration file"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
