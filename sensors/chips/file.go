package chips

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// textFile reads what some other program keeps in a file.
func textFile() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "file", Doc: "what a file holds: a number, or values in JSON",
			Chip: "what other programs write, or the kernel in /proc and /sys", Datasheet: "none: the file's own",
			Options: append([]sensors.Option{
				{Name: "path", Kind: sensors.OptionString, Required: true, Doc: "of a regular file"},
				{Name: "max_age", Kind: sensors.OptionDuration, Default: time.Duration(0), Doc: "how long ago the file may have been written: an older one is no reading; 0s for any"},
			}, textOptions()...),
			Timeout: 2 * time.Second,
		},
		QuantitiesOf: textQuantities,
		Check:        checkText,
		Open: func(_ context.Context, c sensors.Config, _ *bus.Set) (sensors.Sensor, error) {
			return &fileSensor{config: c}, nil
		},
	}
}

// fileSensor knows how the wall clock has stepped since its file was written, as far as it has seen: a step makes no
// file old, and no old one fresh.
type fileSensor struct {
	config sensors.Config
	looked time.Time     // with the monotonic clock
	file   time.Time     // when it was written, by its own account
	moved  time.Duration // steps of the wall clock since then
	since  time.Time     // of looks that found the same file; zero if the first one did
}

// ahead is how much later than now a file may have been written: clocks of network file systems differ.
const ahead = 5 * time.Second

// age returns how long ago a file was written, by its own account at written, for a look at now, by the wall clock
// alone, that is since after the last one. Whether a file is from before or after a step in between is not known:
// it is from when it fits.
func (s *fileSensor) age(now, written time.Time, since time.Duration) time.Duration {
	var step time.Duration
	if !s.looked.IsZero() {
		step = now.Sub(s.looked.Round(0)) - since
	}
	fits := func(age time.Duration) bool { return 0 <= age && age <= since }
	age := now.Sub(written)
	switch {
	case written.Equal(s.file):
		s.moved += step
	case !fits(age) && fits(age-step):
		s.moved = step
	default:
		s.moved = 0
	}
	if !written.Equal(s.file) {
		s.since = time.Time{}
		if !s.file.IsZero() {
			s.since = s.looked // it was written since then
		}
	}
	s.file = written
	return age - s.moved
}

// Sense reads the file. Nothing has to be opened anew after a failure, and what is known of the file's time is kept.
func (s *fileSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	m, err := s.read()
	if err != nil {
		return nil, &sensors.Unreadable{Err: err}
	}
	return m, nil
}

func (s *fileSensor) read() ([]sensors.Measurement, error) {
	// A pipe without a writer would hold the reader up.
	f, err := os.OpenFile(stringOption(s.config, "path"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", bus.ErrAbsent, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %w", bus.ErrPermission, err)
	case err != nil:
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", sensors.ErrPermanent, f.Name())
	}
	now := time.Now()
	age := s.age(now.Round(0), info.ModTime(), now.Sub(s.looked))
	s.looked = now
	if most := s.config.Options["max_age"].(time.Duration); most > 0 {
		switch {
		case age < -ahead && s.since.IsZero():
			return nil, fmt.Errorf("%s was written in the future, at %s: how old it is will be known when it is written again: check the clocks of its writer and of this machine",
				f.Name(), info.ModTime().UTC().Format(time.RFC3339))
		case age < -ahead:
			age = now.Sub(s.since)
		}
		if age > most {
			return nil, fmt.Errorf("%s was written %v ago, want at most %v", f.Name(), age.Round(time.Second), most)
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return nil, err
	}
	m, err := readText(s.config.Options, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return m, nil
}

func (s *fileSensor) Close() error { return nil }
