package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"holdfast/broker/brokertest"
)

// site is a gateway with every kind of listener, users and rules.
type site struct {
	*process
	ca                          *brokertest.Authority
	cert, key, passwords        string
	tls, mutual, ws, wss, local string // addresses; local is a path
}

// The users are anna, who may do everything, ben, who may use open/#, and the certificate pump, which may
// use pump/#. Only the unix socket lets anonymous clients in, which may read open/#.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{ca: brokertest.NewAuthority(t)}
	for _, addr := range []*string{&s.tls, &s.mutual, &s.ws, &s.wss} {
		*addr = brokertest.FreeAddress(t)
	}
	dir := t.TempDir()
	s.local, s.passwords = filepath.Join(dir, "s"), filepath.Join(dir, "passwords")
	s.cert, s.key = s.ca.Issue("server")
	hash := strings.TrimSpace(must(t, holdfast(t, "anna's", "passwd")))
	must(t, holdfast(t, "ben's", "passwd", "-f", s.passwords, "ben"))
	s.process = serve(t, fmt.Sprintf(`broker:
  anonymous: false
  listeners:
    - {url: "mqtt://{addr}"}
    - {url: "mqtts://%s", cert: %[6]s, key: %[7]s}
    - {url: "mqtts://%[2]s", cert: %[6]s, key: %[7]s, ca: %[8]s, require_client_certificate: true}
    - {url: "ws://%[3]s/mqtt"}
    - {url: "wss://%[4]s", cert: %[6]s, key: %[7]s}
    - {url: "unix://%[5]s", anonymous: true}
  users:
    - {name: anna, password_hash: "%[9]s"}
  password_file: %[10]s
  acl:
    - {user: anna, topic: "#", access: readwrite}
    - {user: ben, topic: "open/#", access: readwrite}
    - {topic: "ready", access: read}
    - {certificate: "*", topic: "%%cn/#", access: readwrite}
    - {anonymous: true, topic: "open/#", access: read}
`, s.tls, s.mutual, s.ws, s.wss, s.local, s.cert, s.key, s.ca.File, hash, s.passwords))
	must(t, holdfast(t, "anna's", "pub", "--url", "mqtt://"+s.addr, "-u", "anna", "--password-file", "-", "-t", "ready", "-m", "ready", "-r", "-q", "1"))
	return s
}

func hostPort(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}

// realClient is a third party's client, over one kind of listener.
type realClient struct {
	name string
	// listen returns the lines "TOPIC PAYLOAD QOS" of what comes, the first of which is what is retained.
	listen func(t *testing.T, filters ...string) (line func() string)
	// publish publishes payload with each QoS, and returns when that is acknowledged.
	publish func(t *testing.T, topic, payload string)
}

func realClients(s *site) []realClient {
	var clients []realClient
	host, port := hostPort(s.tls)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		// Mosquitto's clients look up the name in a certificate, which has localhost.
		args := []string{"-h", strings.Replace(host, "127.0.0.1", "localhost", 1), "-p", port, "--cafile", s.ca.File, "-u", "anna", "-P", "anna's", "-V", version}
		clients = append(clients, realClient{
			"mosquitto " + version,
			func(t *testing.T, filters ...string) func() string {
				sub := append([]string{"-q", "2", "-F", "%t %p %q"}, args...)
				for _, f := range filters {
					sub = append(sub, "-t", f)
				}
				return listenWith(t, "mosquitto_sub", sub...).line
			},
			func(t *testing.T, topic, payload string) {
				for qos := range 3 {
					must(t, finish(t, exec.Command("mosquitto_pub", append([]string{"-t", topic, "-m", payload, "-q", fmt.Sprint(qos)}, args...)...)))
				}
			},
		})
	}
	for _, js := range []brokertest.MQTTJS{
		{URL: "ws://" + s.ws + "/mqtt", Version: 4}, {URL: "ws://" + s.ws + "/mqtt", Version: 5},
		{URL: "wss://" + s.wss + "/", Version: 5, CA: s.ca.File},
	} {
		js.Username, js.Password = "anna", "anna's"
		clients = append(clients, realClient{
			fmt.Sprintf("MQTT.js %d %.3s", js.Version, js.URL),
			func(t *testing.T, filters ...string) func() string {
				js := js
				js.Filters = filters
				l := listenCommand(t, js.Command(t))
				if got, want := l.line(), "granted"+strings.Repeat(" 2", len(filters)); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
				return l.line
			},
			func(t *testing.T, topic, payload string) {
				js := js
				js.Publish = [][3]any{{topic, payload, 0}, {topic, payload, 1}, {topic, payload, 2}}
				if got, want := must(t, finish(t, js.Command(t))), strings.Repeat("done "+topic+"\n", 3); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			},
		})
	}
	return append(clients, pahoMQTT(s), pahoGolang(s))
}

// pahoMQTT is paho.mqtt.golang, which speaks 3.1.1, over its own WebSocket with TLS.
func pahoMQTT(s *site) realClient {
	connect := func(t *testing.T, handler mqtt.MessageHandler) mqtt.Client {
		t.Helper()
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("wss://" + s.wss + "/mqtt").SetProtocolVersion(4).
			SetTLSConfig(s.ca.Client("")).SetUsername("anna").SetPassword("anna's").SetAutoReconnect(false).
			SetClientID("paho" + fmt.Sprint(time.Now().UnixNano())).SetDefaultPublishHandler(handler))
		if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("paho.mqtt.golang: %v", token.Error())
		}
		t.Cleanup(func() { c.Disconnect(100) })
		return c
	}
	return realClient{
		"paho.mqtt.golang",
		func(t *testing.T, filters ...string) func() string {
			lines := make(chan string, 1000)
			c := connect(t, func(_ mqtt.Client, m mqtt.Message) {
				lines <- fmt.Sprintf("%s %s %d", m.Topic(), m.Payload(), m.Qos())
			})
			for _, f := range filters {
				if token := c.Subscribe(f, 2, nil); !token.WaitTimeout(patience) || token.Error() != nil {
					t.Fatalf("paho.mqtt.golang: %v", token.Error())
				}
			}
			return next(t, lines)
		},
		func(t *testing.T, topic, payload string) {
			c := connect(t, nil)
			for qos := range byte(3) {
				if token := c.Publish(topic, qos, false, payload); !token.WaitTimeout(patience) || token.Error() != nil {
					t.Fatalf("paho.mqtt.golang: %v", token.Error())
				}
			}
		},
	}
}

// pahoGolang is paho.golang, which speaks 5, over the unix socket.
func pahoGolang(s *site) realClient {
	connect := func(t *testing.T, receive func(*paho.Publish)) *paho.Client {
		t.Helper()
		nc, err := net.Dial("unix", s.local)
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{
			Conn: nc, PacketTimeout: patience,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				receive(p.Packet)
				return true, nil
			}},
		})
		if _, err := c.Connect(context.Background(), &paho.Connect{
			CleanStart: true, KeepAlive: 60, UsernameFlag: true, Username: "anna", PasswordFlag: true, Password: []byte("anna's"),
		}); err != nil {
			t.Fatalf("paho.golang: %v", err)
		}
		t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
		return c
	}
	return realClient{
		"paho.golang",
		func(t *testing.T, filters ...string) func() string {
			lines := make(chan string, 1000)
			c := connect(t, func(p *paho.Publish) { lines <- fmt.Sprintf("%s %s %d", p.Topic, p.Payload, p.QoS) })
			var subs []paho.SubscribeOptions
			for _, f := range filters {
				subs = append(subs, paho.SubscribeOptions{Topic: f, QoS: 2})
			}
			if _, err := c.Subscribe(context.Background(), &paho.Subscribe{Subscriptions: subs}); err != nil {
				t.Fatalf("paho.golang: %v", err)
			}
			return next(t, lines)
		},
		func(t *testing.T, topic, payload string) {
			c := connect(t, func(*paho.Publish) {})
			for qos := range byte(3) {
				if _, err := c.Publish(context.Background(), &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: qos}); err != nil {
					t.Fatalf("paho.golang: %v", err)
				}
			}
		},
	}
}

func next(t *testing.T, lines <-chan string) func() string {
	return func() string {
		t.Helper()
		select {
		case l := <-lines:
			return l
		case <-time.After(patience):
			t.Fatal("nothing comes")
			return ""
		}
	}
}

// TestRealClients: each publishes with QoS 0, 1 and 2, and each receives all of that, in order.
func TestRealClients(t *testing.T) {
	brokertest.Program(t, "mosquitto_sub")
	brokertest.Program(t, "node")
	s := newSite(t)
	clients := realClients(s)
	var lines []func() string
	for _, c := range clients {
		line := c.listen(t, "ready", "all/#")
		if got := line(); got != "ready ready 1" {
			t.Fatalf("%s: got %q", c.name, got)
		}
		lines = append(lines, line)
	}
	for i, from := range clients {
		topic, payload := fmt.Sprintf("all/%d", i), "from-"+strings.ReplaceAll(from.name, " ", "-")
		from.publish(t, topic, payload)
		for j, to := range clients {
			for qos := range 3 {
				if got, want := lines[j](), fmt.Sprintf("%s %s %d", topic, payload, qos); got != want {
					t.Errorf("from %s to %s: got %q, want %q", from.name, to.name, got, want)
				}
			}
		}
	}
}

// TestRealClientsAreRefused: what other people's clients say when the gateway says no.
func TestRealClientsAreRefused(t *testing.T) {
	brokertest.Program(t, "mosquitto_sub")
	s := newSite(t)
	host, port := hostPort(s.addr)
	at := []string{"-h", host, "-p", port}
	ben := append([]string{"-u", "ben", "-P", "ben's"}, at...)
	for _, tt := range []struct {
		what string
		cmd  *exec.Cmd
		code int    // -1 for any but 0
		want string // somewhere in what it writes
	}{
		{"mosquitto_sub 5, filter", exec.Command("mosquitto_sub", append(ben, "-V", "mqttv5", "-t", "closed/#", "-d", "-C", "1")...), 0, "Subscribed (mid: 1): 135"},
		{"mosquitto_sub 3.1.1, filter", exec.Command("mosquitto_sub", append(ben, "-V", "mqttv311", "-t", "closed/#", "-d", "-C", "1")...), 0, "Subscribed (mid: 1): 128"},
		{"mosquitto_pub 5, topic", exec.Command("mosquitto_pub", append(ben, "-V", "mqttv5", "-t", "closed/x", "-m", "x", "-q", "1", "-d")...), 0, "RC:135"},
		{"mosquitto_pub 3.1.1, topic", exec.Command("mosquitto_pub", append(ben, "-V", "mqttv311", "-t", "closed/x", "-m", "x", "-q", "1", "-d")...), 0, "received PUBACK"},
		{"mosquitto_pub, password", exec.Command("mosquitto_pub", append([]string{"-u", "ben", "-P", "wrong", "-t", "a", "-m", "x"}, at...)...), -1, "bad user name or password"},
		{"mosquitto_pub, anonymous", exec.Command("mosquitto_pub", append([]string{"-t", "a", "-m", "x"}, at...)...), -1, "not authorised"},
		{"sub, filter", exec.Command(program, append([]string{"sub", "-t", "closed/#", "-u", "ben"}, at...)...), 1, "subscription to closed/# refused: not authorized (0x87)"},
		{"sub 3.1.1, filter", exec.Command(program, append([]string{"sub", "-t", "closed/#", "-u", "ben", "-V", "3.1.1"}, at...)...), 1, "(0x80)"},
		{"sub, one of two filters", exec.Command(program, append([]string{"sub", "-t", "closed/#", "-t", "ready", "-C", "1", "-u", "ben"}, at...)...), 0, "subscription to closed/# refused"},
		{"pub, topic", exec.Command(program, append([]string{"pub", "-t", "closed/x", "-m", "x", "-q", "1", "-u", "ben"}, at...)...), 1, "publish to closed/x refused: not authorized (0x87)"},
		{"pub, password", exec.Command(program, append([]string{"pub", "-t", "open/x", "-m", "x", "-u", "anna"}, at...)...), 1, "connection refused: bad user name or password (0x86)"},
		{"pub 3.1.1, password", exec.Command(program, append([]string{"pub", "-t", "open/x", "-m", "x", "-u", "anna", "-V", "3.1.1"}, at...)...), 1, "bad user name or password"},
		{"MQTT.js 5, filter", brokertest.MQTTJS{URL: "ws://" + s.ws + "/mqtt", Version: 5, Username: "ben", Password: "ben's", Filters: []string{"open/#", "closed/#"}}.Command(t), -2, "granted 2 135"},
		{"MQTT.js 4, filter", brokertest.MQTTJS{URL: "ws://" + s.ws + "/mqtt", Version: 4, Username: "ben", Password: "ben's", Filters: []string{"open/#", "closed/#"}}.Command(t), -2, "granted 2 128"},
		{"MQTT.js 5, topic", brokertest.MQTTJS{URL: "ws://" + s.ws + "/mqtt", Version: 5, Username: "ben", Password: "ben's", Publish: [][3]any{{"closed/x", "x", 1}}}.Command(t), 0, "refused closed/x 135"},
		{"MQTT.js 5, password", brokertest.MQTTJS{URL: "ws://" + s.ws + "/mqtt", Version: 5, Username: "ben", Password: "wrong", Filters: []string{"a"}}.Command(t), 1, "failed 134"},
		{"MQTT.js 4, password", brokertest.MQTTJS{URL: "ws://" + s.ws + "/mqtt", Version: 4, Username: "ben", Password: "wrong", Filters: []string{"a"}}.Command(t), 1, "failed 4"},
		{"MQTT.js, another path", brokertest.MQTTJS{URL: "ws://" + s.ws + "/", Version: 5, Username: "ben", Password: "ben's", Filters: []string{"a"}}.Command(t), 1, "failed"},
	} {
		if tt.cmd.Path == program {
			tt.cmd.Env = append(os.Environ(), passwordVariable+"=ben's")
		}
		if tt.code == -2 { // it goes on listening
			if got := listenCommand(t, tt.cmd).line(); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.what, got, tt.want)
			}
			continue
		}
		r := finish(t, tt.cmd)
		if !strings.Contains(strings.ToLower(r.out+r.errs), strings.ToLower(tt.want)) || tt.code >= 0 && r.code != tt.code || tt.code < 0 && r.code == 0 {
			t.Errorf("%s: got %+v, want %q", tt.what, r, tt.want)
		}
	}
}

// TestClientCertificates: only clients with a certificate of the authority connect, by its name.
func TestClientCertificates(t *testing.T) {
	brokertest.Program(t, "mosquitto_pub")
	s := newSite(t)
	cert, key := s.ca.Issue("pump")
	url := []string{"--url", "mqtts://" + s.mutual, "--ca", s.ca.File}
	with := append([]string{"--cert", cert, "--key", key}, url...)
	sub := listenWith(t, program, append([]string{"sub", "-t", "ready", "-t", "pump/#", "-C", "2"}, with...)...)
	if got := sub.line(); got != "ready" {
		t.Errorf("got %q", got)
	}
	host, port := hostPort(s.mutual)
	theirs := []string{"-h", strings.Replace(host, "127.0.0.1", "localhost", 1), "-p", port, "--cafile", s.ca.File, "-V", "mqttv5", "-q", "1", "-d"}
	pub := finish(t, exec.Command("mosquitto_pub", append(theirs, "--cert", cert, "--key", key, "-t", "pump/on", "-m", "1")...))
	if got := sub.line(); got != "1" || pub.code != 0 {
		t.Errorf("got %q after %+v", got, pub)
	}
	if r := finish(t, exec.Command("mosquitto_pub", append(theirs, "--cert", cert, "--key", key, "-t", "tank/on", "-m", "1")...)); !strings.Contains(r.out+r.errs, "RC:135") {
		t.Errorf("another's topic: %+v", r)
	}
	otherCert, otherKey := brokertest.NewAuthority(t).Issue("pump")
	for what, r := range map[string]result{
		"none":              holdfast(t, "", append([]string{"pub", "-t", "pump/on", "-m", "1"}, url...)...),
		"another authority": holdfast(t, "", append([]string{"pub", "-t", "pump/on", "-m", "1", "--cert", otherCert, "--key", otherKey}, url...)...),
		"mosquitto_pub":     finish(t, exec.Command("mosquitto_pub", append(theirs, "-t", "pump/on", "-m", "1")...)),
	} {
		if r.code == 0 {
			t.Errorf("%s: let in: %+v", what, r)
		}
	}
	if r := holdfast(t, "", "pub", "-t", "a", "-m", "x", "--url", "mqtts://"+s.tls); r.code != 1 || !strings.Contains(r.errs, "of its authority as ca") {
		t.Errorf("an unknown authority of the server: %+v", r)
	}
	if r := holdfast(t, "", "pub", "-t", "a", "-m", "x", "--url", "mqtts://"+s.addr); r.code != 1 || !strings.Contains(r.errs, "does this port speak TLS") {
		t.Errorf("TLS to a port without: %+v", r)
	}
}

// TestReloadWhileConnected: certificates, users and rules change at SIGHUP, and connections stay.
func TestReloadWhileConnected(t *testing.T) {
	s := newSite(t)
	tlsURL := []string{"--url", "mqtts://" + s.tls, "--ca", s.ca.File}
	anna := listenCommand(t, withPassword("anna's", append([]string{"sub", "-u", "anna", "-t", "ready", "-t", "t"}, tlsURL...)...))
	ben := listenCommand(t, withPassword("ben's", append([]string{"sub", "-u", "ben", "-t", "ready", "-t", "open/x"}, tlsURL...)...))
	for _, l := range []*listener{anna, ben} {
		if got := l.line(); got != "ready" {
			t.Fatalf("got %q", got)
		}
	}
	presented := func() string {
		c, err := tls.Dial("tcp", s.tls, s.ca.Client(""))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := presented(); got != "server" {
		t.Fatalf("certificate %q", got)
	}
	cert, key := s.ca.Issue("renewed")
	for from, to := range map[string]string{cert: s.cert, key: s.key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	must(t, holdfast(t, "carl's", "passwd", "-f", s.passwords, "carl"))
	must(t, holdfast(t, "", "passwd", "-f", s.passwords, "-D", "ben"))
	text, err := os.ReadFile(s.base)
	if err != nil {
		t.Fatal(err)
	}
	s.write("gateway.yaml", strings.Replace(string(text), "user: ben", "user: carl", 1))
	s.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "the new certificate", func() bool { return presented() == "renewed" })
	if code := ben.code(); code != 1 || !strings.Contains(ben.errs.String(), "not authorized (0x87)") {
		t.Errorf("a user who is gone: %d %s", code, &ben.errs)
	}
	must(t, finish(t, withPassword("carl's", append([]string{"pub", "-u", "carl", "-t", "open/x", "-m", "x", "-q", "1"}, tlsURL...)...)))
	must(t, finish(t, withPassword("anna's", append([]string{"pub", "-u", "anna", "-t", "t", "-m", "still here", "-q", "1"}, tlsURL...)...)))
	if got := anna.line(); got != "still here" {
		t.Errorf("got %q", got)
	}

	// A configuration with a mistake changes nothing.
	s.write("gateway.yaml", strings.Replace(string(text), "access: readwrite", "access: everything", 1))
	s.cmd.Process.Signal(syscall.SIGHUP)
	must(t, finish(t, withPassword("anna's", append([]string{"pub", "-u", "anna", "-t", "t", "-m", "and now", "-q", "1"}, tlsURL...)...)))
	if got := anna.line(); got != "and now" {
		t.Errorf("got %q", got)
	}
	s.terminate()
	if log := s.log.String(); !strings.Contains(log, "nothing is changed: the configuration cannot be used") || strings.Contains(log, "other changes") {
		t.Errorf("the log is\n%s", log)
	}
}

// eventually tries until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	try := time.NewTicker(10 * time.Millisecond)
	defer try.Stop()
	for range int(patience / (10 * time.Millisecond)) {
		if f() {
			return
		}
		<-try.C
	}
	t.Fatalf("%s: it never comes", what)
}

// withPassword is the program with a password in its environment.
func withPassword(password string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), passwordVariable+"="+password)
	return cmd
}

// TestWebSocketOrigins: a browser's page from elsewhere is turned away, unless the configuration names it.
func TestWebSocketOrigins(t *testing.T) {
	ws := brokertest.FreeAddress(t)
	serve(t, openBroker+`    - {url: "ws://`+ws+`", origins: ["https://dash.example"]}`+"\n")
	for origin, want := range map[string]bool{"https://dash.example": true, "http://127.0.0.1:3000": true, "https://evil.example": false} {
		o := mqtt.NewClientOptions().AddBroker("ws://" + ws + "/mqtt").SetAutoReconnect(false).SetHTTPHeaders(map[string][]string{"Origin": {origin}})
		c := mqtt.NewClient(o)
		token := c.Connect()
		token.WaitTimeout(patience)
		if got := token.Error() == nil; got != want {
			t.Errorf("%s: %v", origin, token.Error())
		}
		c.Disconnect(10)
	}
}
