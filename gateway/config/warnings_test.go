package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestWarnings: each row is a part of a configuration, and what each warning of it says, in order.
func TestWarnings(t *testing.T) {
	const users = `users: [{name: anna, password_hash: "$argon2id$v=19$m=19456,t=2,p=1$5tUmvnVVJJFVAFXVCtaX0g$9wx2qFnsLyKZxBGbwYRFCAtjGpBHcD8MHTmSYjS7p3U"}]
  acl: [{topic: "#", access: readwrite}]`
	listener := func(url, more string) string {
		return "broker:\n  listeners:\n    - {url: \"" + url + "\"" + more + "}\n  " + users + "\n"
	}
	bridge := func(text string) string { return "bridges:\n  - name: up\n    " + text + "\n" }
	login := func(upstream, key string) string {
		return bridge("upstream: [" + upstream + "]\n    " + key + "\n    in: [{filter: \"c/#\"}]")
	}
	out := func(rules string) string {
		return bridge("upstream: [\"mqtt://broker.example\"]\n    out: [" + rules + "]")
	}
	const (
		clear   = "a.yaml:3: broker.listeners[0].url: passwords of users cross the network in plain text, and can be read on the way: use "
		remedy  = " with cert and key, or listen on 127.0.0.1"
		sends   = "a.yaml:3: bridges[up].upstream[0]: "
		secret  = "username: site\n    password: hidden"
		crosses = " crosses the network in plain text, and can be read on the way: use "
		filter  = "a.yaml:4: bridges[up].out[0].filter: "
		prefix  = "a.yaml:4: bridges[up].out[0].prefix: "
		nothing = "matches nothing that the gateway publishes: did you mean "
	)
	for _, c := range []struct {
		text string
		want []string
	}{
		{listener("mqtt://0.0.0.0:1883", ""), []string{clear + "mqtts" + remedy}},
		{listener("mqtt://:1883", ""), []string{clear + "mqtts" + remedy}},
		{listener("ws://[::]:80", ""), []string{clear + "wss" + remedy}},
		{listener("mqtt://192.168.1.2", ", anonymous: true"), []string{clear + "mqtts" + remedy}},
		{listener("mqtts://0.0.0.0", ", cert: c, key: k"), nil},
		{listener("mqtt://127.0.0.1", ""), nil},
		{listener("ws://[::1]", ""), nil},
		{listener("unix:///run/h.sock", ""), nil},
		{`broker: {anonymous: true, listeners: [{url: "mqtt://0.0.0.0"}]}`, nil},

		{login(`"mqtt://broker.example"`, secret), []string{sends + "password" + crosses + "mqtts"}},
		{login(`"ws://192.168.1.9/mqtt"`, secret), []string{sends + "password" + crosses + "wss"}},
		{login(`"mqtt://broker.example"`, "username: token"), []string{sends + "username" + crosses + "mqtts"}},
		{login(`"mqtt://broker.example"`, "username: site\n    token_file: t"), []string{sends + "token_file" + crosses + "mqtts"}},
		{login(`"mqtt://127.0.0.1", "mqtt://broker.example"`, secret), []string{"a.yaml:3: bridges[up].upstream[1]: password" + crosses + "mqtts"}},
		{login(`"mqtt://localhost", "ws://[::1]:9001"`, secret), nil},
		{login(`"mqtts://broker.example"`, secret), nil},
		{login(`"mqtt://broker.example"`, "window: 5"), nil},

		{out(`{filter: "sensor/#"}`), []string{filter + `"sensor/#" ` + nothing + `"sensors/#"?`}},
		{out(`{filter: "Sensors/+/air"}`), []string{filter + `"Sensors/+/air" ` + nothing + `"sensors/+/air"?`}},
		{out(`{filter: "snesors/#"}`), []string{filter + `"snesors/#" ` + nothing + `"sensors/#"?`}},
		{out(`{filter: output/x}`), []string{filter + `"output/x" ` + nothing + `"outputs/x"?`}},
		{out(`{filter: "holdfst/#"}`), []string{filter + `"holdfst/#" ` + nothing + `"holdfast/#"?`}},
		{out(`{filter: "/sensors/#"}`), []string{filter + `"/sensors/#" ` + nothing + `"sensors/#"?`}},
		{out(`{filter: "sensors/"}`), []string{filter + `"sensors/" ` + nothing + `"sensors/#"?`}},
		{out(`{filter: "sensors/#"}, {filter: "alarms/#"}, {filter: "sense/#"}, {filter: "$SYS/#"}`), nil},
		{out(`{filter: "sensor/#"}`) + `broker: {acl: [{topic: "sensor/%c/#", access: write}]}`, nil},
		{bridge("upstream: [\"mqtt://broker.example\"]\n    out: [{filter: \"sensor/#\"}]\n    in: [{filter: \"x/#\", strip: x, prefix: sensor}]"), nil},

		{out(`{filter: "sensors/#", prefix: up}`), []string{prefix + `there is no "/" between it and what follows, which makes topics of the kind "upsensors/#": write "up/"`}},
		{out(`{filter: "sensors/#", strip: sensors/, prefix: site1}`), []string{prefix + `there is no "/" between it and what follows, which makes topics of the kind "site1#": write "site1/"`}},
		{out(`{filter: "sensors/#", strip: sensors, prefix: up}`), nil},
		{out(`{filter: "sensors/#", prefix: up/}`), nil},
		{out(`{filter: "sensors/#", prefix: up-}`), nil},
		{out(`{filter: "sensors/a", strip: sensors/a, prefix: up}`), nil},

		{out(`{filter: "sensors/#"}, {filter: "sensors/+/air"}`), []string{`a.yaml:4: bridges[up].out[1].filter: sends nothing: the first rule that matches decides, and out[0] with "sensors/#" matches all that this one does: put this one before it, or remove it`}},
		{out(`{filter: "+/a"}, {filter: "x/a", prefix: y/}, {filter: "$SYS/a"}`), []string{`a.yaml:4: bridges[up].out[1].filter: sends nothing: the first rule that matches decides, and out[0] with "+/a" matches all that this one does: put this one before it, or remove it`}},
		{out(`{filter: "sensors/+/air"}, {filter: "sensors/#"}, {filter: "#"}, {filter: "$SYS/#"}`), nil},
	} {
		cfg, err := load(t, c.text)
		if err != nil {
			t.Errorf("%s\n%v", c.text, err)
			continue
		}
		warnings := cfg.Warnings()
		for i := range warnings {
			warnings[i].File = filepath.Base(warnings[i].File)
		}
		if got, want := warnings.Error(), strings.Join(c.want, "\n"); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", c.text, got, want)
		}
	}
}
