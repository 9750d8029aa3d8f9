package chips

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// kernelSensor reads files that a driver of the kernel offers in sysfs. It is found by name and looked
// for anew after every error, because numbers of devices change when one is unplugged and comes back.
type kernelSensor struct {
	sys      fs.FS
	identity string // file whose text says that the device is still the one that was found; may be empty
	name     string // that text
	channels []channel
}

// channel is one value.
type channel struct {
	sensors.Quantity
	names  []string // by which the option channels may call it, beside the quantity's
	files  []string // which it is made of
	decode func(texts []string) (float64, error)
}

func (s *kernelSensor) Quantities() []sensors.Quantity {
	q := make([]sensors.Quantity, len(s.channels))
	for i, c := range s.channels {
		q[i] = c.Quantity
	}
	return q
}

func (s *kernelSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if s.identity != "" {
		got, err := bus.ReadFile(s.sys, s.identity)
		if err != nil {
			return nil, err
		}
		if got != s.name {
			return nil, fmt.Errorf("%w: /sys/%s is %q now, and was %q", bus.ErrAbsent, s.identity, got, s.name)
		}
	}
	var all []sensors.Measurement
	for _, c := range s.channels {
		texts := make([]string, len(c.files))
		for i, name := range c.files {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			var err error
			if texts[i], err = bus.ReadFile(s.sys, name); err != nil {
				return nil, err
			}
		}
		v, err := c.decode(texts)
		if err != nil {
			return nil, fmt.Errorf("/sys/%s: %w", c.files[0], err)
		}
		all = append(all, sensors.Measurement{Quantity: c.Name, Value: v, Unit: c.Unit})
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return all, nil
}

func (s *kernelSensor) Close() error { return nil }

// choose keeps the channels that are wanted, in that order; all if none is named.
func (s *kernelSensor) choose(wanted []string) error {
	if len(s.channels) == 0 {
		return fmt.Errorf("%w: %s has no values", sensors.ErrPermanent, s.name)
	}
	if len(wanted) == 0 {
		return nil
	}
	var chosen []channel
	var known []string
	for _, c := range s.channels {
		known = append(known, c.Name)
	}
	for _, w := range wanted {
		i := slices.IndexFunc(s.channels, func(c channel) bool { return c.Name == w || slices.Contains(c.names, w) })
		if i < 0 {
			return fmt.Errorf("%w: there is no channel %q: there are %s", sensors.ErrPermanent, w, strings.Join(known, ", "))
		}
		chosen = append(chosen, s.channels[i])
	}
	s.channels = chosen
	return nil
}

// channelsOption is for drivers that find out for themselves what there is.
var channelsOption = sensors.Option{Name: "channels", Kind: sensors.OptionStrings, Doc: "quantities to report; all if not given"}

// atOption tells devices of the same name apart.
var atOption = sensors.Option{Name: "at", Kind: sensors.OptionString,
	Doc: "part of the device's place, such as 1-0076 or bme680@76; needed if several have the name"}

// findDevice returns the directory of the device that has a name, from all that match a pattern.
func findDevice(sys fs.FS, pattern, name, at, remedy string) (string, error) {
	dirs, err := fs.Glob(sys, pattern)
	if err != nil {
		return "", err
	}
	var found, places, seen []string
	for _, dir := range dirs {
		got, err := bus.ReadFile(sys, path.Join(dir, "name"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being removed, or has no name
		}
		if err != nil {
			return "", err
		}
		seen = append(seen, got)
		if got != name {
			continue
		}
		place := bus.ReadLink(sys, dir)
		for _, file := range []string{"label", "uevent", "device/uevent"} {
			text, err := bus.ReadFile(sys, path.Join(dir, file))
			if err == nil {
				place += "\n" + text
			}
		}
		if strings.Contains(place, at) {
			found, places = append(found, dir), append(places, place)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if at != "" && slices.Contains(seen, name) {
			return "", fmt.Errorf("%w: no %s at %q", bus.ErrAbsent, name, at)
		}
		return "", fmt.Errorf("%w: no device is named %q, there are %q: %s", bus.ErrAbsent, name, seen, remedy)
	}
	return "", fmt.Errorf("%w: %d devices are named %s: set at to what tells one of %q", sensors.ErrPermanent, len(found), name, places)
}

// decimal reads a number as sysfs writes it.
func decimal(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return 0, fmt.Errorf("got %.20q, want a number", text)
	}
	return v, nil
}

// scaled is a decode of one file.
func scaled(factor float64) func([]string) (float64, error) {
	return func(texts []string) (float64, error) {
		v, err := decimal(texts[0])
		return v * factor, err
	}
}

// inTopic is text as part of a quantity's name: lower case letters, digits and underscores.
func inTopic(text string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, text)
	return strings.Trim(clean, "_")
}

// unique makes names different that labels have made the same.
func unique(channels []channel) {
	count := map[string]int{}
	for i := range channels {
		c := &channels[i]
		if count[c.Name]++; count[c.Name] > 1 {
			c.names = append(c.names, c.Name)
			c.Name = fmt.Sprintf("%s_%d", c.Name, count[c.Name])
		}
	}
}

func stringOption(c sensors.Config, name string) string { s, _ := c.Options[name].(string); return s }

func stringsOption(c sensors.Config, name string) []string {
	s, _ := c.Options[name].([]string)
	return s
}

func mapOption(options map[string]any, name string) map[string]string {
	m, _ := options[name].(map[string]string)
	return m
}

// hostOf returns the Host of a sensor; one that is opened without supervision may have none.
func hostOf(c sensors.Config) sensors.Host {
	if c.Host == nil {
		return &sensors.NoHost{}
	}
	return c.Host
}
