package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"holdfast/broker"
)

// The functions below make the kinds of scalar values. Each stores through its first argument, and
// its errors say what is wanted without repeating the text, which may be secret.

func text(to *string, want string, valid func(string) bool) kind {
	return kind{into: to, want: want, types: []string{"!!str", "!!timestamp"}, parse: func(s string) error {
		if !valid(s) {
			return errors.New("want " + want)
		}
		*to = s
		return nil
	}}
}

func boolean(to *bool) kind {
	return kind{into: to, want: "true or false", types: []string{"!!bool"}, parse: func(s string) error {
		switch strings.ToLower(s) {
		case "true":
			*to = true
		case "false":
			*to = false
		default:
			return errors.New("want true or false")
		}
		return nil
	}}
}

// ambiguous returns what is wrong with the text of a number that YAML 1.1, YAML 1.2 and people read differently: 017 is 15,
// 1_000 a text to some, 1:30 is 90. It is empty for others, and for what is no number at all. It repeats nothing of the
// text, which may be secret.
func ambiguous(text string, hex bool) string {
	digits := strings.TrimLeft(text, "+-")
	if digits == "" || digits[0] < '0' || digits[0] > '9' {
		return ""
	}
	base := ""
	if len(digits) > 1 && digits[0] == '0' {
		base = strings.ToLower(digits[1:2])
	}
	switch {
	case strings.Contains(digits, "_"):
		return ", without _: write 1000, not 1_000"
	case strings.Contains(digits, ":"):
		return ", without a colon: YAML may read that in base 60"
	case base == "x" && hex:
		return ""
	case base == "x", base == "o", base == "b":
		return ", in decimal"
	case base != "" && base[0] >= '0' && base[0] <= '9':
		return ", without a 0 in front: YAML reads that in base 8, where 017 is 15"
	}
	return ""
}

// hexadecimal is k, which may be written as 0x76 too.
func hexadecimal(k kind) kind {
	k.hex = true
	return k
}

// quotable is k, a whole number that may be in quotes.
func quotable(k kind) kind {
	k.types = append(k.types, "!!str")
	k.schema = maps.Clone(k.schema)
	maps.Copy(k.schema, pattern("^[+-]?[0-9]+$"))
	return k
}

// number is a whole number, in decimal.
func number[T ~int | ~int64 | ~uint8 | ~uint16](to *T, low, high int64, why string) kind {
	want := "a whole number"
	if low != math.MinInt64 || high != math.MaxInt64 {
		want = fmt.Sprintf("a whole number from %d to %d", low, high)
	}
	bounds := schema{"minimum": low, "maximum": high}
	return kind{into: to, want: want, types: []string{"!!int"}, number: true, schema: bounds, parse: func(s string) error {
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil || n < low || n > high {
			return errors.New("want " + want + why)
		}
		*to = T(n)
		return nil
	}}
}

func choice[T ~string](to *T, allowed ...string) kind {
	return kind{into: to, want: oneOf(allowed), types: []string{"!!str"}, schema: schema{"enum": allowed}, parse: func(s string) error {
		for _, a := range allowed {
			if s == a {
				*to = T(a)
				return nil
			}
		}
		return errors.New("want " + oneOf(allowed))
	}}
}

// choiceOf is a choice in which numbers need no quotes.
func choiceOf(to *string, allowed ...string) kind {
	k := choice(to, allowed...)
	all := make([]any, 0, len(allowed))
	for _, a := range allowed {
		all = append(all, a)
		if n, err := strconv.ParseInt(a, 10, 64); err == nil {
			all = append(all, n)
		}
	}
	if len(all) > len(allowed) {
		k.types = append(k.types, "!!int")
		k.schema = schema{"enum": all}
	}
	return k
}

// protocol may be written as a number.
func protocol(to *Protocol) kind {
	k := choice(to, string(Auto), string(V311), string(V5))
	k.types = append(k.types, "!!int")
	k.schema = schema{"enum": []any{string(Auto), string(V311), string(V5), 5}}
	return k
}

var units = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// size is a number of bytes, at least low.
func size(to *int64, low int64, least string) kind {
	const want = "a size such as 256MiB"
	return kind{into: to, want: want, schema: sizeSchema, parse: func(s string) error {
		digits := strings.TrimRightFunc(s, unicode.IsLetter)
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil || strings.Trim(digits, "0123456789.") != "" {
			return errors.New("want " + want)
		}
		for _, u := range units {
			if s[len(digits):] != u.name {
				continue
			}
			switch n *= u.bytes; {
			case n >= math.MaxInt64:
				return errors.New("want less: no disk is that large")
			case int64(n) < low:
				return errors.New("want at least " + least)
			}
			*to = int64(n)
			return nil
		}
		return errors.New("want a unit after the number: B, KiB, MiB, GiB, TiB, kB, MB or GB")
	}}
}

// count, bytesOf and span write the default of a number, a size and a duration as a configuration has it.
func count(n int) string { return strconv.Itoa(n) }

func bytesOf(n int64) string {
	for _, u := range []int{2, 1, 0} { // of units: GiB, MiB, KiB
		if unit := int64(units[u].bytes); n > 0 && n%unit == 0 {
			return strconv.FormatInt(n/unit, 10) + units[u].name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// duration is a time span of at least low.
func duration(to *time.Duration, low time.Duration, why string) kind {
	const want = "a duration such as 500ms, 10s, 1h30m or 30d"
	return kind{into: to, want: want, schema: durationSchema, parse: func(s string) error {
		if s != "" && strings.Trim(s, "0123456789.") == "" {
			return errors.New("want a unit after the number: ms, s, m, h or d")
		}
		d, err := parseDuration(s)
		switch {
		case err != nil:
			return errors.New("want " + want)
		case d < low:
			return fmt.Errorf("want at least %v%s", low, why)
		}
		*to = d
		return nil
	}}
}

// parseDuration adds days in front to the durations of package time: "30d", "1d12h".
func parseDuration(s string) (time.Duration, error) {
	before, rest, found := strings.Cut(s, "d")
	if !found {
		return time.ParseDuration(s)
	}
	const day, most = 24 * time.Hour, 100 * 365 // days, far from an overflow
	days, err := strconv.ParseUint(before, 10, 16)
	if err != nil || days > most {
		return 0, errors.New("not a number of days")
	}
	if rest == "" {
		return time.Duration(days) * day, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > day {
		return 0, errors.New("not a part of a day")
	}
	return time.Duration(days)*day + d, nil
}

// errCredentials is the one error about a text that is not secret as a rule, and is so here.
var errCredentials = errors.New("want a URL without a name or password: they have keys of their own")

// hostPort is the address of a URL, with the port filled in.
func hostPort(u *url.URL, port string, least uint64) (string, error) {
	if p := u.Port(); p != "" {
		port = p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < least {
		return "", errors.New("want a port from 1 to 65535")
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port), nil
}

// level is a name that becomes one level of a topic.
func level(to *string) kind {
	k := text(to, "1 to 64 bytes without / + # or control characters, not starting with $", isLevel)
	parse := k.parse
	k.parse = func(s string) error {
		if s != "" && strings.TrimSpace(s) == "" {
			return errors.New("want a name that is not blank")
		}
		return parse(s)
	}
	k.schema = pattern(`^[^$/+#][^/+#]{0,63}$`)
	return k
}

func isLevel(s string) bool {
	return s != "" && len(s) <= 64 && s[0] != '$' && !strings.ContainsAny(s, "/+#") && !strings.ContainsFunc(s, unicode.IsControl)
}

// filter is what a rule may select.
func filter(to *string) kind {
	return text(to, `a topic filter: "+" and "#" alone in their level, "#" last, not shared`, func(s string) bool {
		return broker.CheckFilter(s) == nil && !strings.HasPrefix(s, broker.SharedPrefix)
	})
}

// part is the front of a topic, or nothing.
func part(to *string) kind {
	return text(to, `the front of a topic: no "+", "#" or U+0000`, func(s string) bool {
		return s == "" || broker.CheckTopic(s) == nil
	})
}

// announcements is a topic to publish on, or off for none.
func announcements(to *string) kind {
	const want = `a topic without "+", "#" and U+0000, or off`
	return kind{into: to, want: want, types: []string{"!!str"}, parse: func(s string) error {
		switch {
		case s == "off":
			*to = ""
		case broker.CheckTopic(s) != nil || s[0] == '$':
			return errors.New("want " + want)
		default:
			*to = s
		}
		return nil
	}}
}

// percent is a part of a whole that leaves something for both sides.
func percent(to *int) kind {
	const want = "a percentage from 1% to 99%, such as 50%"
	return kind{into: to, want: want, types: []string{"!!str"}, schema: pattern(`^[1-9][0-9]?%$`), parse: func(s string) error {
		digits, ok := strings.CutSuffix(s, "%")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || n < 1 || n > 99 {
			return errors.New("want " + want)
		}
		*to = n
		return nil
	}}
}

// packed is a string that fits into an MQTT packet [MQTT-1.5.3, MQTT-1.5.4].
func packed(to *string, want string) kind {
	k := text(to, want, func(s string) bool {
		return s != "" && len(s) <= math.MaxUint16 && !strings.ContainsRune(s, 0)
	})
	k.schema = schema{"minLength": 1}
	return k
}

// socketPath is an absolute path that a unix socket can have.
func socketPath(to *string) kind {
	k := text(to, "an absolute path of at most "+strconv.Itoa(maxSocket)+" bytes", func(s string) bool {
		return filepath.IsAbs(s) && !strings.HasSuffix(s, "/") && len(s) <= maxSocket && !strings.ContainsRune(s, 0)
	})
	k.schema = pattern("^/.*[^/]$")
	return k
}

func password(to *Secret) kind {
	k := packed((*string)(to), "text of 1 to 65535 bytes")
	k.secret = true
	return k
}
