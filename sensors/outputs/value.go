package outputs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Parse reads a value as people write it: on, off, true, false, or a number.
func (d *Driver) Parse(options map[string]any, text string) (float64, error) {
	var value float64
	switch text {
	case "on", "ON", "true":
		value = 1
	case "off", "OFF", "false":
	default:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) {
			return 0, errors.New("want " + d.Wants(options))
		}
		return v, d.Check(options, v)
	}
	if d.Position {
		return 0, errors.New("want " + d.Wants(options))
	}
	return value, nil
}

// Wants returns which values the output takes, for an error.
func (d *Driver) Wants(options map[string]any) string {
	low, high, unit := 0.0, 1.0, ""
	if d.Range != nil {
		low, high, unit = d.Range(options)
	}
	switch {
	case d.Position:
		return fmt.Sprintf("a number from %v to %v%s", low, high, unit)
	case d.Levels:
		return fmt.Sprintf("on, off or a number from %v to %v%s", low, high, unit)
	}
	return "on or off"
}

// Check returns an error unless the output can be at value.
func (d *Driver) Check(options map[string]any, value float64) error {
	low, high := 0.0, 1.0
	if d.Range != nil {
		low, high, _ = d.Range(options)
	}
	if !(value >= low && value <= high) || !d.Levels && !d.Position && value != 0 && value != 1 {
		return fmt.Errorf("got %v, want %s", value, d.Wants(options))
	}
	return nil
}
