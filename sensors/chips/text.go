package chips

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/sensors"
)

// maxText is the most that a command, file or message may say, in bytes.
const maxText = 64 << 10

// textOptions say what in a text is a value, for drivers that read texts.
func textOptions() []sensors.Option {
	return []sensors.Option{
		{Name: "values", Kind: sensors.OptionMap, Doc: "places in the JSON text by quantity, such as power: meter.phases[0].w, a name with a dot as in [\"a.b\"]; if not given the whole text is a number, called value"},
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
	doc, err := parseJSON(text)
	if err != nil {
		return nil, err
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

// readParts makes measurements of a text that may have only some of the values, each by itself: one that is not there,
// is null or is called unknown is left out. bad is the error of the first that is no number, with the others in m.
func readParts(options map[string]any, text []byte) (m []sensors.Measurement, bad error) {
	text = bytes.TrimRight(text, "\x00 \t\r\n") // some devices send the zero at the end of a C string
	values := mapOption(options, "values")
	if len(values) == 0 {
		if noValue(string(text)) {
			return nil, nil
		}
		m, bad = readText(options, text)
		if bad != nil && len(text) > 0 && text[0] == '{' {
			bad = fmt.Errorf("%w: name its place in the JSON text with values", bad)
		}
		return m, bad
	}
	doc, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	for _, q := range textQuantities(options) {
		found, err := at(doc, values[q.Name])
		if text, ok := found.(string); err != nil || found == nil || ok && noValue(text) {
			continue
		}
		v, err := toNumber(found)
		switch {
		case err == nil:
			m = append(m, sensors.Measurement{Quantity: q.Name, Value: v, Unit: q.Unit})
		case bad == nil:
			bad = fmt.Errorf("%s: %w", values[q.Name], err)
		}
	}
	return m, bad
}

// noValue reports whether a text is what devices and programs send for a value that they do not have: ESPHome nan,
// Home Assistant unknown and unavailable.
func noValue(text string) bool {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "nan", "null", "none", "unknown", "unavailable":
		return true
	}
	return false
}

// parseJSON keeps numbers as they are written: one that does not fit spoils no other. It takes NaN and Infinity, which
// Python's json writes, for null.
func parseJSON(text []byte) (doc any, err error) {
	if doc, err = decodeJSON(text); err != nil {
		if other := withoutNaN(text); other != nil {
			if doc, err := decodeJSON(other); err == nil {
				return doc, nil
			}
		}
		return nil, fmt.Errorf("JSON: %w: got %.60q", err, text)
	}
	return doc, nil
}

func decodeJSON(text []byte) (doc any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the value")
	}
	return doc, nil
}

var notJSON = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)\b`)

// withoutNaN replaces NaN, Infinity and -Infinity outside of strings; nil if there is none.
func withoutNaN(text []byte) []byte {
	found := false
	out := notJSON.ReplaceAllFunc(text, func(b []byte) []byte {
		if b[0] == '"' {
			return b
		}
		found = true
		return []byte("null")
	})
	if !found {
		return nil
	}
	return out
}

// steps splits a place such as meter.phases[0]["active.power"] into names and indexes. A name with a dot or a bracket
// stands in brackets and quotes.
func steps(place string) (all []any, err error) {
	wrong := fmt.Errorf(`place %q: want names, [numbers] and ["names with . or ["], such as a.b[0]["c.d"]`, place)
	for rest := place; ; {
		if rest != "" && rest[0] == '[' {
			if quote := rest[1:min(2, len(rest))]; quote == `"` || quote == "'" {
				name, after, closed := strings.Cut(rest[2:], quote+"]")
				if !closed {
					return nil, wrong
				}
				all, rest = append(all, name), after
			} else {
				number, after, closed := strings.Cut(rest[1:], "]")
				n, err := strconv.ParseUint(number, 10, 16)
				if err != nil || !closed {
					return nil, wrong
				}
				all, rest = append(all, int(n)), after
			}
		} else {
			end := strings.IndexAny(rest+".", ".[")
			if end == 0 {
				return nil, wrong
			}
			all, rest = append(all, rest[:end]), rest[end:]
		}
		switch {
		case rest == "":
			return all, nil
		case rest[0] == '.':
			if rest = rest[1:]; rest == "" || rest[0] == '[' {
				return nil, wrong
			}
		case rest[0] != '[':
			return nil, wrong
		}
	}
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
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return 0, fmt.Errorf("got %.40s, want a number up to 1.8e308", v)
		}
		return f, nil
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

// toTime understands the times that devices send: RFC 3339, the same without a zone in the local one, and seconds or
// milliseconds since 1970.
func toTime(v any) (time.Time, error) {
	text := ""
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
		for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z07:00"} {
			if t, err := time.Parse(layout, text); err == nil {
				return t, nil
			}
		}
		for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
			if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
				return t, nil
			}
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f > 0 && f < 1e13) {
		return time.Time{}, fmt.Errorf("got %.40v, want a time such as 2026-11-24T10:00:00Z, or seconds since 1970", v)
	}
	if f >= 1e11 { // milliseconds: as seconds it would be the year 5138
		f /= 1000
	}
	return time.UnixMilli(int64(math.Round(f * 1000))), nil
}
