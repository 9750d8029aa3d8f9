package broker

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrTopic is wrapped by every error about a malformed topic name or topic filter.
var ErrTopic = errors.New("malformed topic")

// maxTopic is the longest topic name or filter in bytes: the limit of an MQTT UTF-8 string
// [MQTT-4.7.3-3].
const maxTopic = 65535

// SharedPrefix starts the filter of a shared subscription, "$share/{group}/{filter}" (MQTT 5.0
// section 4.8.2).
const SharedPrefix = "$share/"

// CheckTopic returns an error that wraps ErrTopic unless topic can be published to: at least one
// character [MQTT-4.7.3-1], no wildcard [MQTT-3.3.2-2], no U+0000 [MQTT-4.7.3-2], valid UTF-8.
func CheckTopic(topic string) error {
	if err := checkCharacters(topic); err != nil {
		return err
	}
	if i := strings.IndexAny(topic, "+#"); i >= 0 {
		return fmt.Errorf("%w: %q: wildcard %q in a topic name", ErrTopic, topic, topic[i])
	}
	return nil
}

// CheckFilter returns an error that wraps ErrTopic unless filter is a well-formed topic filter:
// "+" and "#" stand alone in their level and "#" comes last [MQTT-4.7.1-1, MQTT-4.7.1-2]. For a
// shared subscription the group name has to be without wildcards and the filter after it valid
// [MQTT-4.8.2-1, MQTT-4.8.2-2].
func CheckFilter(filter string) error {
	if err := checkCharacters(filter); err != nil {
		return err
	}
	rest := filter
	if strings.HasPrefix(filter, SharedPrefix) {
		group, inner, ok := strings.Cut(filter[len(SharedPrefix):], "/")
		if !ok || group == "" || inner == "" || strings.ContainsAny(group, "+#") {
			return fmt.Errorf("%w: %q: want $share/GROUP/FILTER", ErrTopic, filter)
		}
		rest = inner
	}
	for more := true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#" && more:
			return fmt.Errorf("%w: %q: \"#\" is not the last level", ErrTopic, filter)
		case len(level) > 1 && strings.ContainsAny(level, "+#"):
			return fmt.Errorf("%w: %q: wildcard shares level %q", ErrTopic, filter, level)
		}
	}
	return nil
}

func checkCharacters(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty", ErrTopic)
	case len(s) > maxTopic:
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrTopic, len(s), maxTopic)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w: %q: U+0000", ErrTopic, s)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %q: not UTF-8", ErrTopic, s)
	}
	return nil
}

// Match says whether topic is matched by filter, both well-formed (MQTT 5.0 section 4.7). A filter
// that starts with a wildcard does not match a topic that starts with "$" [MQTT-4.7.2-1]. It does
// not allocate.
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		if filter == "#" {
			return true
		}
		f, restFilter, moreFilter := strings.Cut(filter, "/")
		t, restTopic, moreTopic := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !moreTopic {
			// "sport/#" also matches "sport": the parent level is included.
			return !moreFilter || restFilter == "#"
		}
		if !moreFilter {
			return false
		}
		filter, topic = restFilter, restTopic
	}
}

// Covers reports whether outer matches every topic that inner matches. Both have to be well-formed, and not shared.
func Covers(outer, inner string) bool {
	if strings.HasPrefix(inner, "$") && (strings.HasPrefix(outer, "+") || strings.HasPrefix(outer, "#")) {
		return false
	}
	for {
		if outer == "#" {
			return true
		}
		o, restOuter, moreOuter := strings.Cut(outer, "/")
		i, restInner, moreInner := strings.Cut(inner, "/")
		if i == "#" || o != i && o != "+" {
			return false
		}
		if !moreInner {
			return !moreOuter || restOuter == "#"
		}
		if !moreOuter {
			return false
		}
		outer, inner = restOuter, restInner
	}
}
