package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxResolved is the most text, in bytes, that all references of a configuration put in together.
const maxResolved = 1 << 20

var errReference = errors.New("unknown reference, want ${device.id}, ${env:NAME} or ${file:PATH}; write $$ for a $ before a {")

// resolve replaces the references in a text scalar, once: their values are not resolved again.
// resolved reports whether there was one. Its errors name references, never their values.
func (l *loader) resolve(f field) (text string, resolved bool, err error) {
	rest := f.node.Value
	if f.node.ShortTag() != "!!str" || !strings.Contains(rest, "$") {
		return rest, false, nil
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(rest, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), resolved, nil
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			rest = after[1:]
		case !strings.HasPrefix(after, "{"):
			b.WriteByte('$') // as in $SYS/#
			rest = after
		default:
			name, after, closed := strings.Cut(after[1:], "}")
			if !closed {
				return "", true, errors.New("a reference is not closed, want a } after ${; write $$ for a $ before a {")
			}
			value, err := l.reference(f, name)
			if err != nil {
				return "", true, err
			}
			if l.expanded += len(value); l.expanded > maxResolved {
				return "", true, fmt.Errorf("references put in more than %d KiB in all", maxResolved>>10)
			}
			b.WriteString(value)
			resolved, rest = true, after
		}
	}
}

// reference returns what ${name} stands for in the file of f.
func (l *loader) reference(f field, name string) (string, error) {
	source, arg, _ := strings.Cut(name, ":")
	switch {
	case name == "device.id" && l.deviceID == "":
		return "", errors.New("cannot refer to itself")
	case name == "device.id":
		return l.deviceID, nil
	case source == "env" && arg != "":
		value, ok := l.opts.Getenv(arg)
		switch {
		case !ok:
			return "", fmt.Errorf("the environment variable %s is not set", plain(arg))
		case !utf8.ValidString(value):
			return "", fmt.Errorf("the environment variable %s is not UTF-8", plain(arg))
		}
		return value, nil
	case source == "file" && arg != "":
		if !filepath.IsAbs(arg) {
			arg = filepath.Join(filepath.Dir(f.file), arg)
		}
		data, err := l.opts.ReadFile(arg, maxReference)
		switch {
		case err != nil:
			return "", fmt.Errorf("${%s}: %w", short(name), err)
		case !utf8.Valid(data):
			return "", fmt.Errorf("${%s}: is not UTF-8", short(name))
		}
		text, _ := strings.CutSuffix(string(data), "\n")
		return strings.TrimSuffix(text, "\r"), nil
	}
	return "", errReference
}
