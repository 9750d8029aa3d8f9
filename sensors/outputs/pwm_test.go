package outputs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// options are a driver's defaults, and what is given.
func options(driver string, given map[string]any) map[string]any {
	all := outputs.FindDriver(driver).Defaults()
	for k, v := range given {
		all[k] = v
	}
	return all
}

func open(set *bus.Set, c outputs.Config, value float64) (outputs.Device, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return outputs.FindDriver(c.Driver).Open(ctx, c, set, value)
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.0005 }

func TestPCA9685(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip, err := pi.Place("pca9685", "simulated", 0x40)
		if err != nil {
			t.Fatal(err)
		}
		set := bus.NewSet(pi)
		channel := func(n int64, activeLow bool, value float64) outputs.Device {
			t.Helper()
			d, err := open(set, outputs.Config{Driver: "pca9685", Bus: "simulated", Address: 0x40,
				Options: options("pca9685", map[string]any{"channel": n, "active_low": activeLow})}, value)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		fan, lamp := channel(3, false, 0.25), channel(15, true, 0)
		now, history := chip.PWM()
		if !near(now[3], 0.25) || now[15] != 1 {
			t.Errorf("at first %v", now)
		}
		for _, h := range history { // no other level on the way
			if h.Channel == 3 && !near(h.On, 0.25) || h.Channel == 15 && h.On != 1 {
				t.Errorf("on the way there: %+v", h)
			}
		}
		ctx := context.Background()
		for _, v := range []float64{0, 0.001, 0.5, 0.9999, 1} {
			if err := errors.Join(fan.Set(ctx, v), lamp.Set(ctx, v)); err != nil {
				t.Fatal(err)
			}
			now, _ := chip.PWM()
			got, err := fan.Get(ctx)
			back, err2 := lamp.Get(ctx)
			if err != nil || err2 != nil || !near(now[3], v) || !near(now[15], 1-v) || !near(got, v) || !near(back, v) {
				t.Errorf("%v: pins at %v and %v, read back %v and %v, %v", v, now[3], now[15], got, back, errors.Join(err, err2))
			}
		}
		// Another frequency stops all channels for a moment, and each has its share of the period afterwards.
		if err := errors.Join(fan.Set(ctx, 0.25), lamp.Set(ctx, 0.75)); err != nil {
			t.Fatal(err)
		}
		_, history = chip.PWM()
		servo, err := open(set, outputs.Config{Driver: "pca9685-servo", Bus: "simulated", Address: 0x40,
			Options: options("pca9685-servo", map[string]any{"channel": int64(0)})}, 90)
		if err != nil {
			t.Fatal(err)
		}
		if angle, err := servo.Get(ctx); err != nil || math.Abs(angle-90) > 1 {
			t.Errorf("at the new frequency: %v, %v", angle, err)
		}
		now, after := chip.PWM()
		if !near(now[3], 0.25) || !near(now[15], 0.25) || !near(now[0], 1.5/20) {
			t.Errorf("after a change of the frequency: %v", now)
		}
		for _, h := range after[len(history):] {
			if h.On != 0 && !near(h.On, now[h.Channel]) {
				t.Errorf("on the way to another frequency: %+v", h)
			}
		}
		if angle, err := servo.Get(ctx); err != nil || math.Abs(angle-90) > 1 {
			t.Errorf("the servo is at %v, %v", angle, err)
		}
		chip.Fault(simulated.PowerCycle)
		if _, err := fan.Get(ctx); err == nil || !strings.Contains(err.Error(), "power") {
			t.Errorf("after a power cycle: %v", err)
		}
		chip.Fault(simulated.Unplugged)
		if err := fan.Set(ctx, 1); !errors.Is(err, bus.ErrAbsent) {
			t.Errorf("unplugged: %v", err)
		}
	})
}

func TestServo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		chip, err := pi.Place("pca9685", "simulated", 0x41)
		if err != nil {
			t.Fatal(err)
		}
		s, err := open(bus.NewSet(pi), outputs.Config{Driver: "pca9685-servo", Bus: "simulated", Address: 0x41,
			Options: options("pca9685-servo", map[string]any{"channel": int64(0)})}, 90)
		if err != nil {
			t.Fatal(err)
		}
		for angle, pulse := range map[float64]time.Duration{0: time.Millisecond, 45: 1250 * time.Microsecond, 180: 2 * time.Millisecond} {
			if err := s.Set(context.Background(), angle); err != nil {
				t.Fatal(err)
			}
			now, _ := chip.PWM()
			if got := time.Duration(now[0] * 20e6); (got - pulse).Abs() > 5*time.Microsecond { // 20 ms in 4096 steps
				t.Errorf("%v degrees: %v, want %v", angle, got, pulse)
			}
			if got, err := s.Get(context.Background()); err != nil || math.Abs(got-angle) > 1 {
				t.Errorf("%v degrees: read back %v, %v", angle, got, err)
			}
		}
	})
}

// kernelPWM stands in for the files of a PWM chip (Documentation/ABI/testing/sysfs-class-pwm).
type kernelPWM struct {
	sys    *simulated.Sysfs
	dir    string
	values map[string]int64
	seen   []string // writes to the channel
	slow   int      // how many writes udev is late
}

func newKernelPWM(pi *simulated.Pi, n int, about string) *kernelPWM {
	k := &kernelPWM{sys: pi.Files(), dir: fmt.Sprintf("class/pwm/pwmchip%d/", n), values: map[string]int64{}}
	k.sys.Set(k.dir+"device/uevent", about)
	k.sys.Set(k.dir+"npwm", "2")
	k.sys.OnWrite(k.dir+"export", func(data string) error {
		if data != "1" {
			return syscall.EINVAL
		}
		k.export()
		return nil
	})
	return k
}

func (k *kernelPWM) export() {
	for _, name := range []string{"period", "duty_cycle", "enable"} {
		file := k.dir + "pwm1/" + name
		k.sys.OnWrite(file, func(data string) error {
			if k.slow > 0 {
				k.slow--
				return syscall.EACCES
			}
			v, err := strconv.ParseInt(data, 10, 64)
			after := map[string]int64{"period": k.values["period"], "duty_cycle": k.values["duty_cycle"]}
			after[name] = v
			if err != nil || after["period"] == 0 || after["duty_cycle"] > after["period"] {
				return syscall.EINVAL
			}
			k.values[name] = v
			k.seen = append(k.seen, name+" "+data)
			return nil
		})
		k.sys.Func(file, func() (string, error) { return strconv.FormatInt(k.values[name], 10), nil })
	}
	k.sys.Set(k.dir+"pwm1/polarity", "normal")
}

func TestKernelPWM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		set := bus.NewSet(pi)
		c := outputs.Config{Driver: "pwm", Bus: "simulated", Options: options("pwm", map[string]any{"channel": int64(1), "frequency": 100.0})}
		if _, err := open(set, c, 0.25); !errors.Is(err, bus.ErrAbsent) {
			t.Errorf("no chip: %v, want %v", err, bus.ErrAbsent)
		}
		newKernelPWM(pi, 0, "OF_FULLNAME=/fan")
		k := newKernelPWM(pi, 7, "DRIVER=pwm-bcm2835\nOF_FULLNAME=/soc/pwm@7e20c000")
		if _, err := open(set, c, 0.25); err == nil || !strings.Contains(err.Error(), "several") {
			t.Errorf("two chips: %v", err)
		}
		c.Options["chip"] = "pwm@7e20c000"
		k.slow = 3
		d, err := open(set, c, 0.25)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"period 10000000", "duty_cycle 2500000", "enable 1"}; !slices.Equal(k.seen, want) {
			t.Errorf("got %v, want %v", k.seen, want)
		}
		ctx := context.Background()
		if err := d.Set(ctx, 1); err != nil || k.values["duty_cycle"] != 1e7 {
			t.Errorf("got %v, %v", k.values, err)
		}
		if v, err := d.Get(ctx); err != nil || v != 1 {
			t.Errorf("got %v, %v", v, err)
		}
		// A process that comes after a crash goes to its own value, a shorter period or not, without a stop.
		k.seen = nil
		c.Options["frequency"] = 1000.0
		if _, err = open(set, c, 0.5); err != nil {
			t.Fatal(err)
		}
		if want := []string{"duty_cycle 500000", "period 1000000", "enable 1"}; !slices.Equal(k.seen[1:], want) {
			t.Errorf("got %v, want %v", k.seen, want)
		}
		k.values["enable"] = 0
		if _, err := d.Get(ctx); err == nil {
			t.Error("switched off by another program, and not noticed")
		}
		pi.Files().Set(k.dir+"pwm1/polarity", "inversed")
		if _, err := open(set, c, 0); err == nil || !strings.Contains(err.Error(), "active_low") {
			t.Errorf("inversed: %v", err)
		}
		c.Options["channel"] = int64(2)
		if _, err := open(set, c, 0); err == nil || !strings.Contains(err.Error(), "channels 0 to 1") {
			t.Errorf("channel 2: %v", err)
		}
		restore := pi.Files().Remove("class/pwm")
		if _, err := d.Get(ctx); !errors.Is(err, bus.ErrAbsent) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("unplugged: %v", err)
		}
		restore()
	})
}

// TestSimulatedPWM: pwm and servo move on a simulated machine, and what the kernel refuses is refused there.
func TestSimulatedPWM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pi := simulated.New(simulated.Options{})
		pi.PWM("", 64)
		pi.PWM("pwm@7e20c000", 2)
		for range 2 { // of two outputs that have the same chip
			pi.PWM("pwm@7e20c000", 2)
		}
		if names, err := fs.Glob(pi.Files(), "class/pwm/pwmchip*"); err != nil || len(names) != 2 {
			t.Fatalf("chips %v, %v", names, err)
		}
		set, ctx := bus.NewSet(pi), context.Background()
		lamp, err := open(set, outputs.Config{Driver: "pwm", Bus: "simulated",
			Options: options("pwm", map[string]any{"chip": "pwm@7e20c000", "channel": int64(1), "active_low": true})}, 0.75)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := fs.ReadFile(pi.Files(), "class/pwm/pwmchip1/pwm1/duty_cycle"); string(text) != "250000\n" {
			t.Errorf("duty cycle %q, %v", text, err)
		}
		for _, v := range []float64{0, 0.4, 1} {
			if err := lamp.Set(ctx, v); err != nil {
				t.Error(err)
			}
			if got, err := lamp.Get(ctx); err != nil || !near(got, v) {
				t.Errorf("lamp at %v: %v, %v", v, got, err)
			}
		}
		servo, err := open(set, outputs.Config{Driver: "servo", Bus: "simulated", Options: options("servo", map[string]any{"chip": "simulated", "channel": int64(63)})}, 90)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := servo.Get(ctx); err != nil || math.Abs(got-90) > 1 {
			t.Errorf("servo at %v, %v", got, err)
		}
		if _, err := open(set, outputs.Config{Driver: "pwm", Bus: "simulated",
			Options: options("pwm", map[string]any{"chip": "pwm@7e20c000", "channel": int64(2)})}, 0); err == nil {
			t.Error("a channel that the chip does not have")
		}
		file := "class/pwm/pwmchip1/pwm1/"
		for name, data := range map[string]string{"duty_cycle": "2000000", "period": "many", "enable": "-1"} {
			if err := pi.Files().WriteFile(file+name, []byte(data)); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%s %s: %v", name, data, err)
			}
		}
	})
}
