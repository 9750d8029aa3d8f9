package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestEveryKeyIsLiveOrNeedsARestart: each key that is not taken over by a running gateway is compared
// under its own name.
func TestEveryKeyIsLiveOrNeedsARestart(t *testing.T) {
	var keys, fields []string
	var walk func(t *table, prefix string)
	walk = func(t *table, prefix string) {
		for _, k := range t.keys {
			switch path := prefix + k.name; {
			case isLive(path):
			case k.table != nil && !strings.HasPrefix(k.want, "a list"):
				walk(k.table, path+".")
			default:
				keys = append(keys, path)
			}
		}
	}
	walk(newLoader(options()).root, "")
	fixed(reflect.ValueOf(Config{}), "", func(path string, _ reflect.Value, _ []int) { fields = append(fields, path) })
	slices.Sort(keys)
	slices.Sort(fields)
	if fields = slices.Compact(fields); !slices.Equal(keys, fields) {
		t.Errorf("keys   %v\nfields %v", keys, fields)
	}
}

func TestNeedRestart(t *testing.T) {
	read := func(text string) *Config {
		t.Helper()
		c, err := load(t, text)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := read("device: {id: a}\njournal: {max_age: 24h}")
	for text, want := range map[string]string{
		"device: {id: a}\njournal: {max_age: 1d}\nbroker: {anonymous: true, groups: [{name: g, users: []}]}": "",
		"device: {id: b}\ndata_dir: /x\nbroker: {limits: {topic_levels: 3}}\njournal: {max_age: 1h}":         "device.id data_dir broker.limits.topic_levels journal.max_age",
		"device: {id: a}\njournal: {max_age: 1d}\nweb: {url: \"http://127.0.0.1:1\"}":                        "web.url",
	} {
		if got := strings.Join(NeedRestart(old, read(text)), " "); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}
