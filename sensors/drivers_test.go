package sensors_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"io/fs"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/sensorstest"
	"holdfast/sensors/simulated"
)

func TestEveryDriver(t *testing.T) {
	required := map[string]map[string]any{"gpio-input": {"line": int64(17)}}
	names := []string{}
	for _, d := range sensors.Drivers() {
		names = append(names, d.Name)
		t.Run(d.Name, func(t *testing.T) {
			sensorstest.Test(t, d, sensors.Config{Name: "s", Options: required[d.Name]})
		})
	}
	if !slices.IsSorted(names) || len(slices.Compact(names)) != len(sensors.Drivers()) {
		t.Errorf("table is not sorted, or has a name twice: %v", names)
	}
}

func driver(t *testing.T, name string) sensors.Driver {
	t.Helper()
	all := sensors.Drivers()
	i := slices.IndexFunc(all, func(d sensors.Driver) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("no driver %s", name)
	}
	return all[i]
}

// open opens a sensor with the driver's defaults and the options given.
func open(t *testing.T, name string, sim bus.Simulator, options map[string]any) (sensors.Sensor, error) {
	t.Helper()
	d := driver(t, name)
	c := sensors.Config{Name: "s", Driver: name, Bus: "simulated", Options: map[string]any{}}
	if len(d.Addresses) > 0 {
		c.Address = d.Addresses[0]
	}
	for _, o := range d.Options {
		if o.Default != nil {
			c.Options[o.Name] = o.Default
		}
	}
	for k, v := range options {
		c.Options[k] = v
	}
	return d.Open(context.Background(), c, bus.NewSet(sim))
}

func sense(t *testing.T, s sensors.Sensor) map[string]float64 {
	t.Helper()
	m, err := s.Sense(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, v := range m {
		values[v.Quantity] = v.Value
	}
	return values
}

// fake is a simulator whose parts a test sets.
type fake struct {
	i2c.BusCloser
	sys fstest.MapFS
}

func (f fake) I2C(string) (i2c.BusCloser, error)   { return f.BusCloser, nil }
func (f fake) Line(string, int) (bus.Line, error)  { return nil, errors.New("no line") }
func (f fake) Sysfs() fs.FS                        { return f.sys }
func file(text string) *fstest.MapFile             { return &fstest.MapFile{Data: []byte(text)} }
func (f fake) with(name, text string) fstest.MapFS { f.sys[name] = file(text); return f.sys }
func newFake(files map[string]string) (f fake)     { f.sys = fstest.MapFS{}; f.fill(files); return f }
func (f fake) fill(files map[string]string) {
	for n, s := range files {
		f.with(n, s)
	}
}

// registers is an I2C bus with one chip of 256 registers that nothing changes but a write.
type registers struct {
	simulated.Bus
	regs  [256]byte
	point byte
}

func (r *registers) Tx(_ uint16, w, read []byte) error {
	if len(w) == 1 {
		r.point = w[0]
	}
	for i := 0; len(w)%2 == 0 && i < len(w); i += 2 {
		r.regs[w[i]] = w[i+1]
	}
	copy(read, r.regs[r.point:])
	return nil
}

// TestBME280WorkedExample is the one of the BMP280 data sheet (BST-BMP280-DS001, section 3.12), through
// periph's driver.
func TestBME280WorkedExample(t *testing.T) {
	r := &registers{}
	r.regs[0xD0] = 0x58
	for i, v := range []int{27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000} {
		r.regs[0x88+2*i], r.regs[0x89+2*i] = byte(v), byte(v>>8)
	}
	copy(r.regs[0xF7:], []byte{415148 >> 12, 415148 >> 4 & 0xff, 415148 << 4 & 0xff, 519888 >> 12, 519888 >> 4 & 0xff, 519888 << 4 & 0xff})
	s, err := open(t, "bme280", fake{BusCloser: r}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := sense(t, s)
	if math.Abs(got["temperature"]-25.08) > 0.001 || math.Abs(got["pressure"]-1006.5327) > 0.0003 || len(got) != 2 {
		t.Errorf("got %v, want 25.08 °C, 1006.5327 hPa (in whole numbers 1006.5325) and no humidity", got)
	}
	r.regs[0xF7], r.regs[0xF8], r.regs[0xF9] = 0, 0, 0
	if _, err := s.Sense(context.Background()); err == nil || !strings.Contains(err.Error(), "implausible") {
		t.Errorf("pressure beyond the range: %v", err)
	}
}

func TestBME280LostItsSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		s, err := open(t, "bme280", pi, nil)
		if err != nil {
			t.Fatal(err)
		}
		sense(t, s)
		pi.Bus("simulated").Chip(0x76).Replug() // between two readings: no transfer has failed
		if m, err := s.Sense(context.Background()); err == nil {
			t.Errorf("got %v", m)
		}
	})
}

func TestBME280StuckBusyEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		s, err := open(t, "bme280", pi, nil)
		if err != nil {
			t.Fatal(err)
		}
		pi.Bus("simulated").Chip(0x76).StickBusy(true)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		begun := time.Now()
		if m, err := s.Sense(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", m, err)
		}
		if took := time.Since(begun); took > 2*time.Second+10*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestADS1115WaitsForASlowChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []int64{8, 128, 860} {
			for channel, other := range map[string]string{"0": "3", "3": "0", "0-1": "2"} {
				pi := simulated.New(simulated.Options{})
				a, err := open(t, "ads1115", pi, map[string]any{"channel": channel, "rate": rate})
				if err != nil {
					t.Fatal(err)
				}
				b, err := open(t, "ads1115", pi, map[string]any{"channel": other, "rate": rate})
				if err != nil {
					t.Fatal(err)
				}
				want := sense(t, a)["voltage"]
				sense(t, b) // leaves another value in the conversion register
				if got := sense(t, a)["voltage"]; math.Abs(got-want) > 0.001 {
					t.Errorf("channel %s at %d/s: got %v, want %v: the conversion before", channel, rate, got, want)
				}
			}
		}
		s, err := open(t, "ads1115", simulated.New(simulated.Options{}), map[string]any{"range": 0.256})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.Sense(context.Background()); err == nil || !strings.Contains(err.Error(), "range") {
			t.Errorf("beyond the range: got %v, %v", m, err)
		}
	})
}

func TestDS18B20(t *testing.T) {
	const dir = "bus/w1/devices/28-00000a/"
	for _, tt := range []struct{ content, want string }{
		{"21437\n", "21.437"},
		{"-1250\n", "-1.25"},
		{"85000\n", "power on"},
		{"127000\n", "implausible"},
		{"", "want a number"},
		{"21.4\n", "want a number"},
		{"99999999999999999999\n", "want a number"},
	} {
		s, err := open(t, "ds18b20", newFake(map[string]string{dir + "temperature": tt.content}), nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Sense(context.Background())
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(m[0].Value)
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%q: got %s, want %s", tt.content, got, tt.want)
		}
	}
	f := newFake(map[string]string{dir + "temperature": "83000\n"})
	s, err := open(t, "ds18b20", f, nil)
	if err != nil {
		t.Fatal(err)
	}
	sense(t, s)
	f.with(dir+"temperature", "85000\n")
	if got := sense(t, s)["temperature"]; got != 85 {
		t.Errorf("85 °C after 83 °C: got %v", got)
	}
	if _, err := open(t, "ds18b20", newFake(nil), nil); !errors.Is(err, bus.ErrAbsent) {
		t.Errorf("none: %v", err)
	}
	two := newFake(map[string]string{dir + "temperature": "1\n", "bus/w1/devices/28-00000b/temperature": "2\n"})
	if _, err := open(t, "ds18b20", two, nil); err == nil || !strings.Contains(err.Error(), "28-00000b") {
		t.Errorf("several: %v", err)
	}
	if s, err = open(t, "ds18b20", two, map[string]any{"id": "28-00000b"}); err != nil {
		t.Fatal(err)
	}
	if got := sense(t, s)["temperature"]; got != 0.002 {
		t.Errorf("chosen by id: got %v", got)
	}
	for _, id := range []string{"28-00000c", "../../../etc"} {
		if _, err := open(t, "ds18b20", two, map[string]any{"id": id}); err == nil {
			t.Errorf("id %s: no error", id)
		}
	}
}

func TestCPUZone(t *testing.T) {
	f := newFake(map[string]string{
		"class/thermal/thermal_zone0/type": "gpu\n", "class/thermal/thermal_zone0/temp": "40000\n",
		"class/thermal/thermal_zone1/type": "cpu-thermal\n", "class/thermal/thermal_zone1/temp": "51234\n",
	})
	s, err := open(t, "cpu", f, map[string]any{"zone": "cpu-thermal"})
	if err != nil {
		t.Fatal(err)
	}
	if got := sense(t, s)["temperature"]; got != 51.234 {
		t.Errorf("got %v", got)
	}
	if _, err := open(t, "cpu", f, map[string]any{"zone": "soc"}); !errors.Is(err, bus.ErrAbsent) || !strings.Contains(err.Error(), "cpu-thermal") {
		t.Errorf("no such zone: %v", err)
	}
}

func TestGPIOInput(t *testing.T) {
	pi := simulated.New(simulated.Options{})
	s, err := open(t, "gpio-input", pi, map[string]any{"line": int64(4)})
	if err != nil {
		t.Fatal(err)
	}
	for _, active := range []bool{false, true, false} {
		pi.GPIO(4).Set(active)
		if got := sense(t, s)["state"]; (got == 1) != active {
			t.Errorf("active %v: got %v", active, got)
		}
	}
}
