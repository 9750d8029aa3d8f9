package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/broker/outbox"
)

// TestSinks: a row of the table of sinks is all that the configuration needs for a bridge to it.
func TestSinks(t *testing.T) {
	opts := options()
	opts.Sinks = []outbox.SinkKind{{Scheme: "line", Port: "8086"}, {Scheme: "lines", Port: "8087", TLS: true}}
	for _, c := range []struct {
		upstream, keys string
		url            string // of the first upstream, if the configuration is right
		said           string // in the error or the warning
	}{
		{`"line://db.example/write?db=x"`, "", "line://db.example:8086/write?db=x", ""},
		{`"lines://DB.example:1", "lines://two.example"`, "", "lines://db.example:1", ""},
		{`"line://db.example"`, "username: a\n    password: b", "line://db.example:8086", "password crosses the network in plain text, and can be read on the way: use lines"},
		{`"lines://db.example"`, "username: a\n    password: b\n    tls: {server_name: x}", "lines://db.example:8087", ""},
		{`"line://db.example"`, "tls: {server_name: x}", "", "tls: only upstreams of mqtts and wss have this"},
		{`"line://"`, "", "", "want mqtt://HOST:PORT, mqtts://, ws:// or wss://, or line://, or lines://"},
		{`"line://me:secret@db.example"`, "", "", "want a URL without a name or password"},
		{`"line://db.example:0"`, "", "", "want a port from 1 to 65535"},
		{`"other://db.example"`, "", "", "or line://, or lines://"},
		{`"line://db.example", "mqtt://db.example"`, "", "", "bridges[up].upstream: line:// is no MQTT broker: want upstreams of one scheme, or a bridge for each"},
		{`"line://db.example"`, `in: [{filter: "c/#"}]`, "", "bridges[up].in: is for MQTT brokers, and line:// is none: want a bridge of its own for it"},
		{`"line://db.example"`, "profile: mosquitto", "", "bridges[up].profile: is for MQTT brokers"},
	} {
		file := filepath.Join(t.TempDir(), "a.yaml")
		text := "bridges:\n  - name: up\n    upstream: [" + c.upstream + "]\n    out: [{filter: \"sensors/#\"}]\n    " + c.keys + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load([]string{file}, opts)
		switch {
		case c.url == "" && (err == nil || !strings.Contains(err.Error(), c.said) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s\ngot %v, want %s", text, err, c.said)
		case c.url == "":
		case err != nil || cfg.Bridges[0].Upstream[0].URL != c.url:
			t.Errorf("%s\ngot %v, want %s", text, err, c.url)
		case c.said == "" && len(cfg.Warnings()) > 0, c.said != "" && !strings.Contains(cfg.Warnings().Error(), c.said):
			t.Errorf("%s\ngot warnings %v, want %q", text, cfg.Warnings(), c.said)
		}
	}
}
