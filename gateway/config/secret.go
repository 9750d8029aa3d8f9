package config

import "log/slog"

const redacted = "********"

// Secret is text that prints, logs and marshals as asterisks, or as nothing if it is empty. Convert
// it to string where the text itself is needed.
type Secret string

// String returns asterisks.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, for JSON and other encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML is String, for YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
