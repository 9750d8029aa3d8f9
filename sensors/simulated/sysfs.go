package simulated

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing/fstest"
	"time"
)

// Sysfs is a tree that stands in for /sys. A file's text is made when it is opened.
type Sysfs struct {
	mu     sync.Mutex
	files  map[string]func() (string, error)
	writes map[string]func(data string) error
}

// Sysfs returns the Pi's /sys.
func (p *Pi) Sysfs() fs.FS { return p.sys }

// Files returns the Pi's /sys, for its files to be set.
func (p *Pi) Files() *Sysfs { return p.sys }

// Set makes a file with a fixed text, without the line's end.
func (s *Sysfs) Set(name, text string) { s.Func(name, func() (string, error) { return text, nil }) }

// Func makes a file whose text is made at every opening. An error is that of reading it.
func (s *Sysfs) Func(name string, f func() (string, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = f
}

// OnWrite makes a file that can be written to.
func (s *Sysfs) OnWrite(name string, f func(data string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes[name] = f
	if s.files[name] == nil {
		s.files[name] = func() (string, error) { return "", nil }
	}
}

// Remove takes away a file, or everything below a directory, and returns what puts it back.
func (s *Sysfs) Remove(prefix string) (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[string]func() (string, error){}
	for name, f := range s.files {
		if name == prefix || strings.HasPrefix(name, prefix+"/") || prefix == "." {
			gone[name] = f
			delete(s.files, name)
		}
	}
	return func() {
		for name, f := range gone {
			s.Func(name, f)
		}
	}
}

// Open opens a file, or lists a directory as it is now.
func (s *Sysfs) Open(name string) (fs.File, error) {
	s.mu.Lock()
	make, known := s.files[name]
	var names []string
	if !known {
		for n := range s.files {
			names = append(names, n)
		}
	}
	s.mu.Unlock()
	tree := fstest.MapFS{}
	if !known {
		for _, n := range names {
			tree[n] = &fstest.MapFile{Mode: 0o444}
		}
		f, err := tree.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			err = &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
		}
		return f, err
	}
	text, err := make()
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	tree[name] = &fstest.MapFile{Data: []byte(text + "\n"), Mode: 0o444}
	return tree.Open(name)
}

// WriteFile writes to a file that OnWrite has made.
func (s *Sysfs) WriteFile(name string, data []byte) error {
	s.mu.Lock()
	f, known := s.writes[name]
	_, there := s.files[name]
	s.mu.Unlock()
	switch {
	case known && there:
		return f(strings.TrimSuffix(string(data), "\n"))
	case there:
		return &fs.PathError{Op: "write", Path: name, Err: syscall.EACCES}
	}
	return &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
}

// ErrIO is the error of the kernel when a device behind a file does not answer.
var ErrIO error = syscall.EIO

// newSysfs is a Pi with a DS18B20 on the 1-Wire bus (Documentation/w1/slaves/w1_therm.rst) and the
// processor's thermal zone (Documentation/driver-api/thermal/sysfs-api.rst).
func newSysfs(seed uint64) *Sysfs {
	s := &Sysfs{files: map[string]func() (string, error){}, writes: map[string]func(string) error{}}
	milli := func(v func(t time.Time) float64) func() (string, error) {
		return func() (string, error) { return fmt.Sprint(int(math.Round(1000 * v(time.Now())))), nil }
	}
	s.Set("bus/w1/devices/28-0316a2795bff/name", "28-0316a2795bff")
	s.thermometer("bus/w1/devices/28-0316a2795bff", func(t time.Time) float64 { return airTemperature(seed+7, t) - 4 })
	s.Set("class/thermal/thermal_zone0/type", "cpu-thermal")
	s.Func("class/thermal/thermal_zone0/temp", milli(func(t time.Time) float64 { return 45 + 3*wave(seed, t, time.Hour) }))
	return s
}

// PWM makes a PWM chip of the kernel with as many channels (Documentation/ABI/testing/sysfs-class-pwm), unless there is one
// whose description has the text about; every one has none.
func (p *Pi) PWM(about string, channels int) {
	for n := 0; ; n++ {
		dir := fmt.Sprintf("class/pwm/pwmchip%d", n)
		text, err := fs.ReadFile(p.sys, dir+"/device/uevent")
		if err == nil && strings.Contains(string(text), about) {
			return
		}
		if err == nil {
			continue
		}
		if about == "" {
			about = "OF_FULLNAME=/simulated/pwm"
		}
		p.sys.Set(dir+"/device/uevent", about)
		p.sys.Set(dir+"/npwm", fmt.Sprint(channels))
		p.sys.OnWrite(dir+"/export", func(data string) error {
			ch, err := strconv.Atoi(data)
			if err != nil || ch < 0 || ch >= channels {
				return syscall.EINVAL
			}
			return p.sys.exportPWM(fmt.Sprintf("%s/pwm%d", dir, ch))
		})
		return
	}
}

// exportPWM makes the files of a channel. The kernel refuses a pulse that is longer than the period.
func (s *Sysfs) exportPWM(dir string) error {
	if _, err := fs.Stat(s, dir); err == nil {
		return syscall.EBUSY
	}
	var mu sync.Mutex
	values := map[string]int64{"period": 0, "duty_cycle": 0, "enable": 0}
	for name := range values {
		s.Func(dir+"/"+name, func() (string, error) {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprint(values[name]), nil
		})
		s.OnWrite(dir+"/"+name, func(data string) error {
			v, err := strconv.ParseInt(data, 10, 64)
			mu.Lock()
			defer mu.Unlock()
			after := maps.Clone(values)
			after[name] = v
			if err != nil || v < 0 || after["period"] == 0 || after["duty_cycle"] > after["period"] {
				return syscall.EINVAL
			}
			values[name] = v
			return nil
		})
	}
	s.Set(dir+"/polarity", "normal")
	return nil
}

// thermometer makes the files of one on 1-Wire (drivers/w1/slaves/w1_therm.c): temperature in m°C, and w1_slave with the
// bytes of the scratchpad, the checksum, and the temperature again. The bytes are a DS18B20's (data sheet, figure 8).
func (s *Sysfs) thermometer(dir string, celsius func(time.Time) float64) {
	milli := func() int { return int(math.Round(1000 * celsius(time.Now()))) }
	s.Func(dir+"/temperature", func() (string, error) { return fmt.Sprint(milli()), nil })
	s.Func(dir+"/w1_slave", func() (string, error) {
		t := milli()
		raw := uint16(int16(t * 16 / 1000))
		pad := []byte{byte(raw), byte(raw >> 8), 0x4B, 0x46, 0x7F, 0xFF, 0x0C, 0x10}
		crc := sumMaxim(pad)
		return fmt.Sprintf("% 02x %02x : crc=%02x YES\n% 02x %02x t=%d", pad, crc, crc, pad, crc, t), nil
	})
}
