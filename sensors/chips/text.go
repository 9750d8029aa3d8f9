package chips

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"holdfast/sensors"
)

// maxText is the most that a command, file or message may say, in bytes.
const maxText = 64 << 10

// textOptions say what in a text is a value, for drivers that read texts.
func textOptions() []sensors.Option {
	return []sensors.Option{
		{Name: "values", Kind: sensors.OptionMap, Doc: "places in the JSON text by quantity, such as power: meter.phases[0].w; if not given the whole text is a number, called value"},
		{Name: "units", Kind: sensors.OptionMap, Doc: "units by quantity, such as power: W"},
	}
}

func textQuantities(options map[string]any) []sensors.Quantity {
	values, units := mapOption(options, "values"), mapOption(options, "units")
	if len(values) == 0 {
		return []sensors.Quantity{{Name: "value", Unit: units["value"]}}
	}
	var q []sensors.Quantity
	for _, name := range slices.Sorted(maps.Keys(values)) {
		q = append(q, sensors.Quantity{Name: name, Unit: units[name]})
	}
	return q
}

// checkText finds mistakes in the options.
func checkText(c sensors.Config) error {
	known := map[string]bool{}
	for _, q := range textQuantities(c.Options) {
		known[q.Name] = true
		if q.Name != inTopic(q.Name) {
			return fmt.Errorf("values: %q cannot be part of a topic: want lower case letters, digits and _", q.Name)
		}
	}
	for name := range mapOption(c.Options, "units") {
		if !known[name] {
			return fmt.Errorf("units: there is no quantity %q", name)
		}
	}
	for name, place := range mapOption(c.Options, "values") {
		if _, err := steps(place); err != nil {
			return fmt.Errorf("values: %s: %w", name, err)
		}
	}
	return nil
}

// readText makes measurements of a text.
func readText(options map[string]any, text []byte) ([]sensors.Measurement, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("more than %d KiB", maxText>>10)
	}
	values := mapOption(options, "values")
	if len(values) == 0 {
		v, err := toNumber(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, err
		}
		return []sensors.Measurement{{Quantity: "value", Value: v, Unit: mapOption(options, "units")["value"]}}, nil
	}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("JSON: %w: got %.60q", err, text)
	}
	var all []sensors.Measurement
	for _, q := range textQuantities(options) {
		found, err := at(doc, values[q.Name])
		if err != nil {
			return nil, err
		}
		v, err := toNumber(found)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", values[q.Name], err)
		}
		all = append(all, sensors.Measurement{Quantity: q.Name, Value: v, Unit: q.Unit})
	}
	return all, nil
}

// steps splits a place such as meter.phases[0].w into names and indexes.
func steps(place string) (all []any, err error) {
	for i, part := range strings.Split(place, ".") {
		name, indexes, _ := strings.Cut(part, "[")
		if name == "" && (i > 0 || indexes == "") {
			return nil, fmt.Errorf("place %q: want names and [numbers], such as a.b[0].c", place)
		}
		if name != "" {
			all = append(all, name)
		}
		for indexes != "" {
			number, rest, closed := strings.Cut(indexes, "]")
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil || !closed || rest != "" && rest[0] != '[' {
				return nil, fmt.Errorf("place %q: want names and [numbers], such as a.b[0].c", place)
			}
			all = append(all, int(n))
			indexes = strings.TrimPrefix(rest, "[")
		}
	}
	return all, nil
}

func at(doc any, place string) (any, error) {
	path, err := steps(place)
	if err != nil {
		return nil, err
	}
	for _, step := range path {
		ok := false
		switch step := step.(type) {
		case string:
			var m map[string]any
			if m, ok = doc.(map[string]any); ok {
				doc, ok = m[step]
			}
		case int:
			var l []any
			if l, ok = doc.([]any); ok && step < len(l) {
				doc = l[step]
			} else {
				ok = false
			}
		}
		if !ok {
			return nil, fmt.Errorf("the JSON text has no %s", place)
		}
	}
	return doc, nil
}

// toNumber understands numbers, also in quotes, and what switches say.
func toNumber(v any) (float64, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "on", "true", "open", "online":
			return 1, nil
		case "off", "false", "closed", "offline":
			return 0, nil
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return 0, fmt.Errorf("got %.40q, want a number", v)
		}
		return f, nil
	}
	return 0, errors.New("want a number")
}
