package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// TestBridgeTest: every reason why a Mosquitto cannot be reached is reported at its step, with a remedy.
func TestBridgeTest(t *testing.T) {
	mosquittoPasswd := brokertest.Program(t, "mosquitto_passwd")
	dir := t.TempDir()
	put := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	passwords := filepath.Join(dir, "passwords")
	must(t, finish(t, exec.Command(mosquittoPasswd, "-c", "-b", passwords, "anna", "hunter2")))
	must(t, finish(t, exec.Command(mosquittoPasswd, "-b", passwords, "ben", "hunter2")))
	acl := put("acl", "user anna\ntopic readwrite sites/north/#\n\nuser ben\ntopic read sites/#\n")
	ca, other := brokertest.NewAuthority(t), brokertest.NewAuthority(t)
	cert, key := ca.Issue("broker")
	oldCert, oldKey := ca.Issue("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	device, deviceKey := ca.Issue("device")
	var extra []string
	listen := func(lines ...string) string {
		addr := brokertest.FreeAddress(t)
		_, port, _ := net.SplitHostPort(addr)
		extra = append(append(extra, "listener "+port+" 127.0.0.1"), lines...)
		return addr
	}
	secure := listen("certfile "+cert, "keyfile "+key)
	mutual := listen("certfile "+cert, "keyfile "+key, "cafile "+ca.File, "require_certificate true")
	old := listen("certfile "+oldCert, "keyfile "+oldKey)
	web := listen("protocol websockets")
	extra = append(extra, "allow_anonymous false", "password_file "+passwords, "acl_file "+acl)
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Extra: extra})
	proxy := brokertest.NewProxy(t, m.Addr(), "")
	proxy.Start()
	closed := brokertest.FreeAddress(t)

	const anna = "username: anna\n    password: hunter2"
	tls := func(text string) string { return anna + "\n    tls: {" + text + "}" }
	for _, tt := range []struct {
		what, url, keys string
		code            int
		wants           []string
	}{
		{"all is well", m.URL(), anna, 0, []string{"ok    connect     accepted, MQTT 5, client pi, user anna", "ok    publish     sites/north/sensors/holdfast-test", "ok    round trip", "clock       offset unknown"}},
		{"by name", "mqtt://" + strings.Replace(m.Addr(), "127.0.0.1", "localhost", 1), anna, 0, []string{"ok    name        localhost: "}},
		{"WebSocket", "ws://" + web, anna, 0, []string{"ok    websocket   upgraded", "ok    round trip"}},
		{"proxy", "mqtt://broker.example", anna + "\n    proxy: {url: \"" + proxy.URL + "\"}", 0, []string{"left to the proxy", "ok    proxy", "the same as that of the proxy", "ok    round trip"}},
		{"wrong password", m.URL(), "username: anna\n    password: wrong", 1, []string{"FAIL  connect", "not authorized", "→ the broker does not let this user in", "-     publish"}},
		{"no name", m.URL(), "", 1, []string{"FAIL  connect", "→ the broker does not let"}},
		{"no right to write", m.URL(), "username: ben\n    password: hunter2", 1, []string{"ok    subscribe", "FAIL  publish", "→ give this user the right to write sites/north/sensors/holdfast-test"}},
		{"TLS", "mqtts://" + secure, tls("ca: " + ca.File), 0, []string{"TLS 1.3, broker until", "by test authority until", "warn  tls", "have it renewed", "ok    round trip"}},
		{"client certificate", "mqtts://" + mutual, tls(fmt.Sprintf("ca: %s, cert: %s, key: %s", ca.File, device, deviceKey)), 0, []string{"this side's device until", "ok    round trip"}},
		{"no client certificate", "mqtts://" + mutual, tls("ca: " + ca.File), 1, []string{"FAIL  connect", "client certificate"}},
		{"expired", "mqtts://" + old, tls("ca: " + ca.File), 1, []string{"FAIL  tls", "the certificate of old expired on", "whoever runs the broker has to renew it"}},
		{"unknown authority", "mqtts://" + secure, tls("ca: " + other.File), 1, []string{"FAIL  tls", "not signed by an authority that is trusted here"}},
		{"TLS to a port without", "mqtts://" + m.Addr(), anna, 1, []string{"FAIL  tls", "does this port speak TLS?", "-     connect"}},
		{"no TLS to a port with", "mqtt://" + secure, anna, 1, []string{"FAIL  connect", "→ closed without an answer to CONNECT", "mqtts://"}},
		{"closed port", "mqtt://" + closed, anna, 1, []string{"FAIL  tcp", "connection refused", "→ nothing listens there", "-     publish"}},
		{"unknown host", "mqtt://no-such-host.invalid", anna, 1, []string{"FAIL  name", "-     tcp"}},
		{"no CA file", "mqtts://" + secure, tls("ca: /none"), 1, []string{"FAIL  tls", "ca /none: no such file"}},
	} {
		file := put("config.yaml", fmt.Sprintf(`
device: {id: pi}
data_dir: /none
bridges:
  - name: cloud
    upstream: [%q]
    %s
    out: [{filter: "sensors/#", prefix: "sites/north/"}]
`, tt.url, tt.keys))
		r := holdfast(t, "", "bridge", "test", "cloud", "-c", file, "--timeout", "20s")
		if r.code != tt.code {
			t.Errorf("%s: code %d, want %d", tt.what, r.code, tt.code)
		}
		for _, want := range tt.wants {
			if !strings.Contains(r.out, want) {
				t.Errorf("%s: want %q in\n%s%s", tt.what, want, r.out, r.errs)
			}
		}
		if strings.Contains(r.out+r.errs, "hunter2") {
			t.Errorf("%s: shows a password", tt.what)
		}
	}
	// 3.1.1 cannot refuse a publish: Mosquitto acknowledges it and ends the connection.
	file := put("config.yaml", fmt.Sprintf(`
bridges:
  - name: cloud
    upstream: [%q]
    client_id: pi
    username: ben
    password: hunter2
    profile: mosquitto
    protocol: 3.1.1
    out: [{filter: "sensors/#", prefix: "sites/north/"}]
`, m.URL()))
	r := holdfast(t, "", "bridge", "test", "cloud", "-c", file, "--timeout", "2s")
	if r.code != 1 || !strings.Contains(r.out, "ok    publish") || !strings.Contains(r.out, "FAIL  round trip") || !strings.Contains(r.out, "where writing is not allowed") {
		t.Errorf("got %+v", r)
	}
	// Where a gateway runs, its identifier is left to it.
	control, err := net.Listen("unix", filepath.Join(dir, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	running := put("running.yaml", fmt.Sprintf("device: {id: pi}\ncontrol: %q\nbridges: [{name: cloud, upstream: [%q], username: anna, password: hunter2, out: [{filter: \"sensors/#\", prefix: sites/north/}]}]\n", control.Addr(), m.URL()))
	if r := holdfast(t, "", "bridge", "test", "cloud", "-c", running); r.code != 0 || !strings.Contains(r.out, "client pi-test, user anna; the bridge's own identifier pi is not tried: a gateway that runs") {
		t.Errorf("got %+v", r)
	}
	for _, args := range [][]string{{"nobody"}, {}, {"cloud", "--timeout", "-1s"}} {
		if r := holdfast(t, "", append([]string{"bridge", "test", "-c", file}, args...)...); r.code != 2 {
			t.Errorf("%q: got %+v, want code 2", args, r)
		}
	}
}

// TestBridgeTestOfIn: a rule of `in` to which a Mosquitto refuses the subscription fails, in each version of MQTT, and
// the other rules of both directions are tried all the same.
func TestBridgeTestOfIn(t *testing.T) {
	brokertest.Program(t, "mosquitto")
	plugins, _ := filepath.Glob("/usr/lib/*/mosquitto_dynamic_security.so")
	if len(plugins) == 0 {
		t.Fatal("no plugin for access control: run `scripts/setup-test`")
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	rights := put("rights.json", `{
		"defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true},
		"groups": [{"groupname": "all", "roles": [{"rolename": "some"}]}], "anonymousGroup": "all",
		"roles": [{"rolename": "some", "acls": [{"acltype": "subscribePattern", "topic": "secret/#", "priority": 1, "allow": false}]}]}`)
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Extra: []string{"plugin " + plugins[0], "plugin_opt_config_file " + rights}})
	for _, version := range []string{"3.1.1", "5"} {
		for _, tt := range []struct {
			in    string
			code  int
			wants []string
		}{
			{"cmd/#, open/+", 0, []string{"ok    subscribe   in: cmd/#, open/+", "ok    subscribe   sensors/holdfast-test", "ok    round trip"}},
			{"cmd/#, secret/#, open/+", 1, []string{"FAIL  subscribe   in: secret/#: refused", "→ give this user the right to read secret/#", "ok    subscribe   in: cmd/#, open/+", "ok    publish", "ok    round trip"}},
			{"secret/doors", 1, []string{"FAIL  subscribe   in: secret/doors: refused", "ok    round trip"}},
		} {
			var rules []string
			for _, f := range strings.Split(tt.in, ", ") {
				rules = append(rules, fmt.Sprintf("{filter: %q, prefix: cloud/}", f))
			}
			file := put("config.yaml", fmt.Sprintf("device: {id: pi}\ndata_dir: %q\nbridges: [{name: cloud, upstream: [%q], protocol: %q, out: [{filter: sensors/#}], in: [%s]}]\n",
				filepath.Join(dir, "data"), m.URL(), version, strings.Join(rules, ", ")))
			r := holdfast(t, "", "bridge", "test", "cloud", "-c", file, "--timeout", "20s")
			for _, want := range tt.wants {
				if r.code != tt.code || !strings.Contains(r.out, want) {
					t.Errorf("%s: %s: code %d, want %d and %q in\n%s%s", version, tt.in, r.code, tt.code, want, r.out, r.errs)
				}
			}
		}
	}
}

// TestBridgeTestLeavesTheSession: with `in` rules the bridge's own identifier connects, and what the upstream has queued for it
// is still there.
func TestBridgeTestLeavesTheSession(t *testing.T) {
	for _, version := range []wire.Version{wire.V311, wire.V5} {
		m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
		connect := func(id string) (*brokertest.Client, *wire.Connack) {
			c := brokertest.Dial(t, m.Addr(), version)
			expiry := uint32(3600)
			connect := wire.Connect{ClientID: id}
			if version == wire.V5 {
				connect.Properties.SessionExpiry = &expiry
			}
			return c, c.Connect(connect)
		}
		bridge, _ := connect("pi")
		bridge.Send(&wire.Subscribe{ID: 1, Subscriptions: []wire.Subscription{{Filter: "cmd/#", QoS: 1}}})
		brokertest.Receive[*wire.Suback](bridge)
		bridge.Send(&wire.Disconnect{})
		bridge.Close()
		publisher, _ := connect("publisher")
		for id := range uint16(30) {
			publisher.Send(&wire.Publish{Topic: "cmd/a", QoS: 1, ID: id + 1, Payload: []byte{byte(id)}})
			brokertest.Receive[*wire.Ack](publisher)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "config.yaml")
		text := fmt.Sprintf("device: {id: pi}\ndata_dir: %q\nbridges: [{name: cloud, upstream: [%q], protocol: %q, out: [{filter: sensors/#}], in: [{filter: cmd/#, prefix: cloud/}]}]\n",
			filepath.Join(dir, "data"), m.URL(), map[wire.Version]string{wire.V311: "3.1.1", wire.V5: "5"}[version])
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write(text)
		r := holdfast(t, "", "bridge", "test", "cloud", "-c", file, "--timeout", "20s")
		for _, want := range []string{"client pi; only connecting is tried with it", "client pi-test; whether the same is allowed to client pi is not tried", "ok    round trip"} {
			if r.code != 0 || !strings.Contains(r.out, want) {
				t.Errorf("%v: code %d, want 0 and %q in\n%s%s", version, r.code, want, r.out, r.errs)
			}
		}
		bridge, ack := connect("pi")
		if !ack.SessionPresent {
			t.Errorf("%v: the session is gone", version)
		}
		for n := range 30 {
			p := brokertest.Receive[*wire.Publish](bridge)
			if int(p.Payload[0]) != n {
				t.Fatalf("%v: got %d, want %d", version, p.Payload[0], n)
			}
			bridge.Send(&wire.Ack{Type: wire.PUBACK, ID: p.ID})
		}
		bridge.Silent()

		refusing := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Extra: []string{"clientid_prefixes other"}})
		write(strings.ReplaceAll(text, m.URL(), refusing.URL()))
		r = holdfast(t, "", "bridge", "test", "cloud", "-c", file, "--timeout", "20s")
		if r.code != 1 || !strings.Contains(r.out, "FAIL  connect     client pi: ") {
			t.Errorf("%v: an identifier that is not taken: %+v", version, r)
		}
	}
}
