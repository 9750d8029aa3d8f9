package outputs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// kernelChannel are the options that say which PWM of the kernel is meant.
func kernelChannel(more ...sensors.Option) []sensors.Option {
	return append([]sensors.Option{
		{Name: "chip", Kind: sensors.OptionString, Doc: "part of the PWM chip's name in /sys/class/pwm/*/device/uevent, such as pwm@7e20c000; needed if there are several"},
		{Name: "channel", Kind: sensors.OptionInt, Default: int64(0), Min: 0, Max: 63, Doc: "number of the PWM in its chip"},
	}, more...)
}

// pwm is a PWM of the kernel (Documentation/driver-api/pwm.rst; on a Pi dtoverlay=pwm or pwm-2chan).
func pwm() Driver {
	return Driver{
		Spec: sensors.Spec{
			Name: "pwm", Doc: "a PWM of the kernel (dtoverlay=pwm-2chan): a dimmer, a fan, a heater behind a solid state relay",
			Options: kernelChannel(
				sensors.Option{Name: "frequency", Kind: sensors.OptionFloat, Default: 1000.0, Min: 0.1, Max: 1e6, Doc: "in Hz"},
				sensors.Option{Name: "active_low", Kind: sensors.OptionBool, Default: false, Doc: "whether a low level is on"},
			),
			Claims:  pwmClaims,
			Timeout: 2 * time.Second,
		},
		PWM: true, Levels: true, Tolerance: 0.001,
		Open: func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
			period := time.Duration(math.Round(float64(time.Second) / c.Options["frequency"].(float64)))
			s := &share{period: period, activeLow: c.Options["active_low"].(bool)}
			var err error
			s.channel, err = openPWM(ctx, c, buses, period, shareWidth(value, period, s.activeLow))
			if err != nil {
				return nil, err
			}
			return s, nil
		},
	}
}

// servo is a servo at a PWM of the kernel.
func servo() Driver {
	return Driver{
		Spec: sensors.Spec{
			Name: "servo", Doc: "a servo at a PWM of the kernel; its value is an angle in degrees",
			Options: kernelChannel(servoOptions()...),
			Claims:  pwmClaims,
			Timeout: 2 * time.Second,
		},
		PWM: true, Position: true, Range: servoRange, Validate: servoPulses, Tolerance: 1,
		Open: func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
			p := newPosition(c)
			var err error
			if p.channel, err = openPWM(ctx, c, buses, servoPeriod, p.widthAt(value)); err != nil {
				return nil, err
			}
			return &p, nil
		},
	}
}

// pwmClaims is the channel.
func pwmClaims(p sensors.Place) ([]sensors.Claim, error) {
	what := fmt.Sprintf("PWM channel %v", p.Options["channel"])
	if chip, _ := p.Options["chip"].(string); chip != "" {
		what += " of " + chip
	}
	if bus.IsSimulated(p.Bus) {
		what += " of " + p.Bus
	}
	return []sensors.Claim{{What: what, Option: "channel"}}, nil
}

// kernelPWM is an exported channel in sysfs.
type kernelPWM struct {
	sys fs.FS
	dir string // "class/pwm/pwmchip0/pwm1"
}

func openPWM(ctx context.Context, c Config, buses *bus.Set, period, width time.Duration) (*kernelPWM, error) {
	sys, err := buses.Sysfs(c.Bus)
	if err != nil {
		return nil, err
	}
	name, _ := c.Options["chip"].(string)
	chip, err := findPWM(sys, name)
	if err != nil {
		return nil, err
	}
	n := c.Options["channel"].(int64)
	if count, err := readInt(sys, path.Join(chip, "npwm")); err == nil && n >= count {
		return nil, fmt.Errorf("channel %d: the chip has channels 0 to %d", n, count-1)
	}
	p := &kernelPWM{sys, path.Join(chip, fmt.Sprintf("pwm%d", n))}
	if _, err := fs.Stat(sys, p.dir); errors.Is(err, fs.ErrNotExist) {
		if err := bus.WriteFile(sys, path.Join(chip, "export"), strconv.FormatInt(n, 10)); err != nil {
			return nil, err
		}
	}
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	return p, p.begin(period, width)
}

// findPWM returns the directory of the PWM chip whose device has text in its description. Numbers of
// chips change with what else is there.
func findPWM(sys fs.FS, text string) (string, error) {
	chips, err := fs.Glob(sys, "class/pwm/pwmchip*")
	if err != nil {
		return "", err
	}
	var found, seen []string
	for _, chip := range chips {
		about, err := bus.ReadFile(sys, path.Join(chip, "device/uevent"))
		if err != nil && text != "" {
			continue // it is being removed, or does not name itself
		}
		if strings.Contains(about, text) {
			found = append(found, chip)
		}
		seen = append(seen, about)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("%w: no PWM chip %q, there are %q: add dtoverlay=pwm-2chan to config.txt", bus.ErrAbsent, text, seen)
	}
	return "", fmt.Errorf("several PWM chips: set chip to what tells one of %q", seen)
}

// ready waits until udev has given the files of a channel that was just exported to the group gpio.
func (p *kernelPWM) ready(ctx context.Context) error {
	for {
		d, err := bus.ReadFile(p.sys, path.Join(p.dir, "duty_cycle"))
		if err == nil {
			err = bus.WriteFile(p.sys, path.Join(p.dir, "duty_cycle"), d)
		}
		if !errors.Is(err, bus.ErrPermission) && !errors.Is(err, bus.ErrAbsent) {
			return nil // a channel without a period refuses even what it has
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// begin brings the channel to a width without another one in between. The kernel refuses a period that
// is shorter than the pulse.
func (p *kernelPWM) begin(period, width time.Duration) error {
	now, err := readInt(p.sys, path.Join(p.dir, "duty_cycle"))
	if err != nil {
		return err
	}
	if text, err := bus.ReadFile(p.sys, path.Join(p.dir, "polarity")); err == nil && text != "normal" {
		return fmt.Errorf("the PWM's polarity is %s, set by another program: want normal, and active_low here", text)
	}
	steps := []struct {
		file  string
		value int64
	}{{"period", int64(period)}, {"duty_cycle", int64(width)}}
	if now > int64(period) {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, s := range steps {
		if err := p.write(s.file, s.value); err != nil {
			return err
		}
	}
	return p.write("enable", 1)
}

func (p *kernelPWM) write(file string, value int64) error {
	return bus.WriteFile(p.sys, path.Join(p.dir, file), strconv.FormatInt(value, 10))
}

func (p *kernelPWM) setWidth(_ context.Context, width time.Duration) error {
	return p.write("duty_cycle", int64(width))
}

func (p *kernelPWM) width(context.Context) (time.Duration, error) {
	if on, err := readInt(p.sys, path.Join(p.dir, "enable")); err != nil || on == 0 {
		return 0, errors.Join(err, errors.New("something else has switched the PWM off"))
	}
	d, err := readInt(p.sys, path.Join(p.dir, "duty_cycle"))
	return time.Duration(d), err
}

// Close leaves the channel as it is: to unexport it would let the pin float.
func (p *kernelPWM) Close() error { return nil }

func readInt(sys fs.FS, name string) (int64, error) {
	text, err := bus.ReadFile(sys, name)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/sys/%s: got %.20q, want a number", name, text)
	}
	return v, nil
}
