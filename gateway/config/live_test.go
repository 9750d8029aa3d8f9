package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestEveryKeyIsLiveOrNeedsARestart: each key that is not taken over by a running gateway is compared by what it
// stores in the configuration, and no two of them are stored in one place.
func TestEveryKeyIsLiveOrNeedsARestart(t *testing.T) {
	l := newLoader(options())
	from := reflect.ValueOf(l.config).Pointer()
	end := from + reflect.TypeOf(*l.config).Size()
	stored := map[uintptr]string{}
	var walk func(t *table, prefix string)
	walk = func(rows *table, prefix string) {
		for _, k := range rows.keys {
			path := prefix + k.name
			switch {
			case k.live:
			case k.isSection():
				walk(k.table, path+".")
			case k.into == nil:
				t.Errorf("%s is neither live nor compared", path)
			default:
				at := reflect.ValueOf(k.into).Pointer()
				if at < from || at >= end {
					t.Errorf("%s is stored outside of the configuration", path)
				}
				if other, twice := stored[at]; twice {
					t.Errorf("%s is stored where %s is", path, other)
				}
				stored[at] = path
			}
		}
	}
	walk(l.root, "")
	if len(stored) < 30 {
		t.Errorf("%d keys need a restart: %v", len(stored), stored)
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
		"device: {id: a}\njournal: {max_age: 1d}\nbroker: {acl: [{topic: '#', access: read}], users: [{name: u, password_hash: '$argon2id$v=19$m=19456,t=2,p=1$5tUmvnVVJJFVAFXVCtaX0g$9wx2qFnsLyKZxBGbwYRFCAtjGpBHcD8MHTmSYjS7p3U'}]}\nweb: {operate: [u]}": "web.operate",
	} {
		if got := strings.Join(NeedRestart(old, read(text)), " "); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}
