package dial_test

import (
	"strings"
	"testing"

	"holdfast/broker/dial"
)

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"mqtt://broker.example:1883":                             "mqtt://broker.example:1883",
		"no URL?token=x":                                         "no URL?token=x",
		"unix:///run/a.sock":                                     "unix:///run/a.sock",
		"wss://h/mqtt?token=secret":                              "wss://h/mqtt?token=********",
		"wss://h/mqtt?a=secret&b=secret;c=secret":                "wss://h/mqtt?a=********&b=********&c=********",
		"wss://h/mqtt?secret":                                    "wss://h/mqtt?********",
		"ws://h/p#access_token=secret":                           "ws://h/p#********",
		"mqtt://me:secret@h:1883/x":                              "mqtt://********@h:1883/x",
		"mqtt://secret@h":                                        "mqtt://********@h",
		"mqtt://me:sec/r?e#t@secret@h":                           "mqtt://********@h",
		"WSS://me:secret@[::1]:443/m?t=secret":                   "WSS://********@[::1]:443/m?t=********",
		`dial "wss://h/?t=secret": failed, and ws://i/?t=secret`: `dial "wss://h/?t=********": failed, and ws://i/?t=********`,
	} {
		if got := dial.Redact(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		if got := dial.Redact(want); got != want {
			t.Errorf("%s: got %s again", want, got)
		}
	}
}

// FuzzRedact: whatever stands where a secret does, it is not in the result.
func FuzzRedact(f *testing.F) {
	f.Add("s3cret!", uint8(0))
	f.Add("a/b?c#d@e", uint8(1))
	f.Fuzz(func(t *testing.T, secret string, where uint8) {
		if len(secret) < 4 || strings.ContainsAny(secret, " \t\r\n\f\v\"'<>`*") || strings.ContainsAny(secret, "&;=@#?") && where%2 == 1 || strings.Contains("mqtt://h/p?token=", secret) {
			return // no secret that could stand there
		}
		text := []string{"mqtt://u:" + secret + "@h/p", "wss://h/p?token=" + secret}[where%2]
		if got := dial.Redact(text); strings.Contains(got, secret) {
			t.Errorf("%q: got %q", text, got)
		}
	})
}
