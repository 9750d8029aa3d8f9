package dial

import (
	"regexp"
	"strings"
)

const hidden = "********"

var urls = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>` + "`" + `]*`)

// Redact returns a text whose URLs are safe to print, log and count: asterisks replace name and
// password, the values of the query, and the fragment. It may hide more than is secret, never less.
func Redact(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return urls.ReplaceAllStringFunc(text, redactURL)
}

func redactURL(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	userinfo := ""
	// The last "@", wherever it is: a password that was not escaped may have any of "/?#@" in it.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		userinfo, rest = hidden+"@", rest[i+1:]
	}
	rest, fragment, ok := strings.Cut(rest, "#")
	if ok {
		fragment = "#" + hidden
	}
	rest, query, ok := strings.Cut(rest, "?")
	if ok {
		parts := strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
		for i, p := range parts {
			if name, _, named := strings.Cut(p, "="); named {
				parts[i] = name + "=" + hidden
			} else {
				parts[i] = hidden
			}
		}
		query = "?" + strings.Join(parts, "&")
	}
	return scheme + "://" + userinfo + rest + query + fragment
}
