package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/broker/wire"
	"holdfast/gateway/uplinks"
)

// service is what a hosted service or a broker asks of its clients. It is written from the documents that
// package profile cites, and not by means of it: what it does not allow fails the test.
type service struct {
	host    string // that the shipped example connects to, with the port
	alpn    string // without which it does not speak MQTT
	mutual  bool   // it asks for a certificate
	version wire.Version
	least   uint16 // keep alive, seconds
	most    uint16
	login   func(s *stand, c *wire.Connect) error
	payload int // most bytes of a message; 0 for any
	topic   int // most bytes; 0 for any
	slashes int // most in a topic; 0 for any
	retain  bool
	kept    int                                // most bytes of a retained message; 0 for any
	prefix  string                             // of the example's rules
	name    func(topic string) (string, error) // under which a consumer finds the message; nil for the topic itself
	noWill  bool                               // a policy has to allow it first
	in      string                             // the only filter that it takes; empty for none
	refused []refusal                          // what never gets there
}

type refusal struct {
	topic  string // before the rules
	bytes  int
	retain bool
	reason string
}

// device is who all the examples are.
const device = "greenhouse-1"

// eventsTopic is the only one that a device of Azure IoT Hub publishes to.
const eventsTopic = "devices/" + device + "/messages/events/"

// deep is a topic of that many levels.
func deep(front string, levels int) string {
	return front + strings.Repeat("/a", levels-1-strings.Count(front, "/"))
}

var services = map[string]service{
	"aws-iot-core": {
		host: "abcdefghijklmn-ats.iot.eu-west-1.amazonaws.com:443", alpn: "x-amzn-mqtt-ca", mutual: true, version: wire.V5,
		least: 30, most: 1200, login: nameless, payload: 128 << 10, topic: 256, slashes: 7, retain: true, noWill: true,
		refused: []refusal{
			{"sensors/large", 128<<10 + 1, false, "aws-iot-core takes messages of at most 131072 bytes, and this has 131073"},
			{deep("sensors", 9), 1, false, "aws-iot-core takes topics of at most 8 levels, and this has 9"},
			{"sensors/" + strings.Repeat("x", 249), 1, false, "aws-iot-core takes topics of at most 256 bytes, and this has 257"},
		},
	},
	"azure-iot-hub": {
		host: "greenhouses.azure-devices.net:8883", version: wire.V311, least: 1, most: 1177, login: signed, payload: 256 << 10,
		in: "devices/" + device + "/messages/devicebound/#",
		name: func(topic string) (string, error) {
			bag, ok := strings.CutPrefix(topic, eventsTopic)
			properties, err := url.ParseQuery(bag)
			if !ok || err != nil || len(properties) != 1 || strings.ContainsAny(bag, "/+#") {
				return "", fmt.Errorf("a device may not publish to %q", topic)
			}
			return properties.Get("topic"), nil
		},
		refused: []refusal{{"sensors/large", 256 << 10, false, "azure-iot-hub takes messages of at most 262144 bytes, and this has 262202"}},
	},
	"azure-event-grid": {
		host: "readings.westeurope-1.ts.eventgrid.azure.net:8883", mutual: true, version: wire.V5, least: 1, most: 1160,
		login: named, prefix: "sites/north/", payload: 512 << 10, topic: 256, slashes: 14, retain: true, kept: 64 << 10,
		refused: []refusal{
			{"sensors/large", 512<<10 + 1, false, "azure-event-grid takes messages of at most 524288 bytes, and this has 524289"},
			{"sensors/kept", 64<<10 + 1, true, "azure-event-grid takes retained messages of at most 65536 bytes, and this has 65537"},
			{deep("sensors", 14), 1, false, "azure-event-grid takes topics of at most 15 levels, and this has 16"},
		},
	},
	"emqx": {
		host: "abcd1234.ala.eu-central-1.emqxsl.com:8883", version: wire.V5, least: 1, most: 65535, login: withPassword,
		prefix: "sites/north/", payload: 1 << 20, slashes: 127, retain: true,
		refused: []refusal{
			{"sensors/large", 1<<20 + 1, false, "emqx takes messages of at most 1048576 bytes, and this has 1048577"},
			{deep("sensors", 127), 1, false, "emqx takes topics of at most 128 levels, and this has 129"},
		},
	},
	"hivemq": {
		host: "abcd1234.s1.eu.hivemq.cloud:8883", version: wire.V5, least: 1, most: 65535, login: withPassword,
		prefix: "sites/north/", payload: 5 << 20, retain: true,
		// The journal takes no message that is too large for it; a prefix makes a topic too long.
		refused: []refusal{{"sensors/" + strings.Repeat("x", 65527), 1, false, `topic by rule "sensors/#": malformed topic: 65547 bytes, want at most 65535`}},
	},
	"mosquitto": {
		host: "broker.example:8883", mutual: true, version: wire.V5, least: 1, most: 65535, login: nameless, prefix: "sites/north/", slashes: 199, retain: true,
		refused: []refusal{{deep("sensors", 199), 1, false, "mosquitto takes topics of at most 200 levels, and this has 201"}},
	},
}

// nameless takes who shows a certificate.
func nameless(_ *stand, c *wire.Connect) error {
	if c.HasUsername || c.HasPassword {
		return fmt.Errorf("user name %q, want the certificate alone", c.Username)
	}
	return nil
}

// named wants the authentication name beside the certificate.
func named(_ *stand, c *wire.Connect) error {
	if c.Username != device || c.HasPassword {
		return fmt.Errorf("user name %q, password %v", c.Username, c.HasPassword)
	}
	return nil
}

// withPassword changes the password after each connection.
func withPassword(s *stand, c *wire.Connect) error {
	if c.Username != device || string(c.Password) != s.password() {
		return fmt.Errorf("user name %q, password %q, want %q", c.Username, c.Password, s.password())
	}
	return nil
}

// signed wants a shared access signature for this device, which has not ended and will.
func signed(s *stand, c *wire.Connect) error {
	host, _, _ := strings.Cut(s.host, ":")
	if want := host + "/" + device + "/?api-version=2021-04-12"; c.Username != want {
		return fmt.Errorf("user name %q, want %q", c.Username, want)
	}
	text, ok := strings.CutPrefix(string(c.Password), "SharedAccessSignature ")
	token, err := url.ParseQuery(text)
	if err != nil || !ok || token.Get("sr") != host+"/devices/"+device {
		return fmt.Errorf("password %q", c.Password)
	}
	end, err := strconv.ParseInt(token.Get("se"), 10, 64)
	if left := time.Until(time.Unix(end, 0)); err != nil || left <= 0 || left > 25*time.Hour {
		return fmt.Errorf("the token is good until %q, that is for %v: %v", token.Get("se"), left, err)
	}
	h := hmac.New(sha256.New, []byte("a key of the device"))
	fmt.Fprintf(h, "%s\n%s", url.QueryEscape(token.Get("sr")), token.Get("se"))
	if want := base64.StdEncoding.EncodeToString(h.Sum(nil)); token.Get("sig") != want {
		return fmt.Errorf("signature %q, want %q", token.Get("sig"), want)
	}
	return nil
}

// TestServices: the gateway of each shipped example is started with files of this test in place of those in
// /etc/holdfast, and a proxy which takes it to a stand instead. What the service takes arrives, before and
// after the service has ended the connection; what it does not take is set aside with the reason.
func TestServices(t *testing.T) {
	for name, sv := range services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stand{service: sv, t: t, dir: t.TempDir(), came: make(chan arrival, 100)}
			g := s.gateway(name)
			told := make(chan string, 10)
			g.opts.seams.announceEvery = 10 * time.Millisecond
			g.before = func(a *Agent) {
				if _, err := a.Subscribe("cloud/#", func(m *broker.Message) { told <- m.Topic + " " + string(m.Payload) }); err != nil {
					t.Fatal(err)
				}
			}
			g.start()
			put := func(topic string, bytes int, retain bool) {
				t.Helper()
				m := &broker.Message{Topic: topic, Payload: make([]byte, bytes), QoS: 1, Retain: retain}
				if err := g.agent.made.server.Publish(m, server.PublishOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			put("sensors/air/temperature", 4, false)
			put("sensors/kept/once", 5, true)
			for _, r := range sv.refused {
				put(r.topic, r.bytes, r.retain)
			}
			put("sensors/the last", 6, false)

			want := []arrival{{sv.prefix + "sensors/air/temperature", 4, false}, {sv.prefix + "sensors/kept/once", 5, sv.retain}, {sv.prefix + "sensors/the last", 6, false}}
			for announced := false; len(want) > 0 || !announced; {
				switch a := <-s.came; {
				case a.topic == "holdfast/"+device+"/losses":
					announced = true
				case !strings.Contains(a.topic, "sensors/"): // the gateway's own state
				case len(want) == 0 || a != want[0]:
					t.Fatalf("%+v arrived, want %+v", a, want)
				default:
					want = want[1:]
				}
			}
			if sv.in != "" {
				if got := <-told; got != "cloud/%24.mid=1 open" {
					t.Errorf("from the service came %q", got)
				}
			}
			if st := g.agent.Status().Bridges[0]; st.Refused != uint64(len(sv.refused)) || st.Reconnects != 1 {
				t.Errorf("%+v", st)
			}
			g.stop()
			g.setAside(sv.refused)
		})
	}
}

// gateway is the one of a shipped example.
func (s *stand) gateway(name string) *site {
	t, a := s.t, brokertest.NewAuthority(s.t)
	host, _, _ := strings.Cut(s.host, ":")
	pair, err := tls.LoadX509KeyPair(a.Issue("service", func(c *x509.Certificate) { c.DNSNames = []string{host} }))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: a.Client("").RootCAs}
	if s.mutual {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if s.alpn != "" {
		config.NextProtos = []string{s.alpn}
	}
	upstream := brokertest.NewScript(t, config, s.session)
	proxy := brokertest.NewProxy(t, upstream.Addr(), "")
	proxy.Start()
	t.Cleanup(func() {
		for _, asked := range proxy.Asked() {
			if asked != s.host {
				t.Errorf("it connects to %s, want %s", asked, s.host)
			}
		}
	})

	if err := s.renew(); err != nil {
		t.Fatal(err)
	}
	cert, key := a.Issue(device)
	for from, to := range map[string]string{cert: "device.crt", key: "device.key", a.File: "upstream.crt"} {
		if err := os.Rename(from, filepath.Join(s.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	sas := base64.StdEncoding.EncodeToString([]byte("a key of the device"))
	if err := os.WriteFile(filepath.Join(s.dir, "device.sas"), []byte(sas+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	example, err := os.ReadFile("../deploy/examples/cloud-" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(example), "\nsensors:")
	// The authority of this test in place of those that the system trusts.
	switch {
	case strings.Contains(text, "\n      ca: "):
	case strings.Contains(text, "\n    tls:\n"):
		text = strings.Replace(text, "\n    tls:\n", "\n    tls:\n      ca: /etc/holdfast/upstream.crt\n", 1)
	default:
		text = strings.Replace(text, "\n    out:\n", "\n    tls: {ca: /etc/holdfast/upstream.crt}\n    out:\n", 1)
	}
	text = strings.Replace(text, "\n    out:\n", "\n    proxy: {url: \""+proxy.URL+"\"}\n    out:\n", 1)
	text = strings.ReplaceAll(text, "/etc/holdfast/", s.dir+"/")
	g := planSite(t, "")
	_, rest, _ := strings.Cut(g.config, "\n") // all but who the device is
	g.config = text + "\n" + strings.Replace(rest, "max_size: 32MiB", "max_size: 1GiB", 1)
	return g
}

// setAside checks what is kept for a person.
func (s *site) setAside(want []refusal) {
	s.t.Helper()
	fs, err := journal.NewDirFS(filepath.Join(s.dir, "journal"))
	if err != nil {
		s.t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs})
	if err != nil {
		s.t.Fatal(err)
	}
	defer j.Close()
	var got []refusal
	if err := uplinks.SettleDeadLetters(j, func(_ uint64, l *uplinks.DeadLetter) uplinks.LetterChoice {
		got = append(got, refusal{l.Message.Topic, len(l.Message.Payload), l.Message.Retain, l.Reason})
		return uplinks.LeaveLetter
	}); err != nil {
		s.t.Error(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("set aside:\n%+v\nwant\n%+v", got, want)
	}
}
