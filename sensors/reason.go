package sensors

import (
	"strconv"
	"strings"
	"time"
)

// SameReason reports whether two reasons of a failure differ at most in their numbers: "written 16s ago" and "written
// 1m18s ago", or two values out of the same range. One that runs on is no news. Digits of a name, such as i2c-1, 0x76
// or GPIO17, are no number.
func SameReason(a, b string) bool {
	for a != b {
		wordA, restA, moreA := strings.Cut(a, " ")
		wordB, restB, moreB := strings.Cut(b, " ")
		if moreA != moreB || wordA != wordB && withoutNumber(wordA) != withoutNumber(wordB) {
			return false
		}
		if !moreA {
			return true
		}
		a, b = restA, restB
	}
	return true
}

// withoutNumber returns a word with # for the number or duration that it is, beside punctuation: "(#" for "(-12.5".
func withoutNumber(word string) string {
	before := len(word) - len(strings.TrimLeft(word, "([\"'"))
	after := len(strings.TrimRight(word, "%,;:.)]\"'"))
	if before >= after {
		return word
	}
	number := word[before:after]
	if _, err := strconv.ParseFloat(number, 64); err != nil {
		if _, err := time.ParseDuration(number); err != nil {
			return word
		}
	}
	return word[:before] + "#" + word[after:]
}
