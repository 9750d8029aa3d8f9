package doctor

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/wire"
)

// TestUpstreamStepByStep: what is wrong with a real broker is found at its step, with a remedy and without the secret,
// and a gateway that is connected stays so.
func TestUpstreamStepByStep(t *testing.T) {
	passwords := filepath.Join(t.TempDir(), "passwords")
	if out, err := exec.Command(brokertest.Program(t, "mosquitto_passwd"), "-c", "-b", passwords, "pi", "hunter2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ca, other := brokertest.NewAuthority(t), brokertest.NewAuthority(t)
	cert, key := ca.Issue("broker")
	secure := brokertest.FreeAddress(t)
	_, port, _ := net.SplitHostPort(secure)
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Extra: []string{
		"listener " + port + " 127.0.0.1", "certfile " + cert, "keyfile " + key, "allow_anonymous false", "password_file " + passwords,
	}})
	running := brokertest.Dial(t, m.Addr(), wire.V5)
	if ack := running.Connect(wire.Connect{ClientID: "pi", HasUsername: true, Username: "pi", HasPassword: true, Password: []byte("hunter2")}); ack.Code != wire.Success {
		t.Fatalf("got %+v", ack)
	}
	socket, err := net.Listen("unix", filepath.Join(t.TempDir(), "control.sock")) // a gateway runs
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	refused := brokertest.FreeAddress(t)
	for _, tt := range []struct {
		what, keys string
		worst      Level
		wants      []string // level, text and remedy, in this order
	}{
		{"all is well", fmt.Sprintf("upstream: [%q], username: pi, password: hunter2", m.URL()), OK,
			[]string{"ok name: 127.0.0.1", "ok tcp: ", "ok connect: accepted", "own identifier pi is not tried", "ok subscribe: sensors/holdfast-test", "ok publish: ", "ok round trip: "}},
		{"wrong password", fmt.Sprintf("upstream: [%q], username: pi, password: hunter3", m.URL()), Fail,
			[]string{"ok tcp", "fail connect: ", "-> the broker does not let this user in"}},
		{"refused port", fmt.Sprintf("upstream: [\"mqtt://%s\", %q], username: pi, password: hunter2", refused, m.URL()), Fail,
			[]string{"fail tcp: ", "connection refused", "-> nothing listens there", "ok round trip: "}},
		{"wrong authority", fmt.Sprintf("upstream: [\"mqtts://%s\"], tls: {ca: %q}, username: pi, password: hunter2", secure, other.File), Fail,
			[]string{"ok tcp", "fail tls: ", "not signed by an authority that is trusted here", "-> "}},
		{"a service that takes no other client", fmt.Sprintf("profile: azure-event-grid, upstream: [\"mqtts://%s\"], tls: {ca: %q, cert: %q, key: %q}", secure, ca.File, cert, key), Warn,
			[]string{"ok tcp", "warn tls: TLS 1.3, broker until", "have it renewed", "no login was tried", "-> holdfast bridge test cloud does"}},
	} {
		p := newPi(t)
		p.m.Try = Here().Try
		p.write(t, "pi.yaml", fmt.Sprintf("device: {id: pi}\ncontrol: %q\nbroker: {listeners: []}\nweb: {url: off}\nbridges: [{name: cloud, out: [{filter: \"sensors/#\"}], %s}]\n", socket.Addr(), tt.keys))
		var text strings.Builder
		worst := OK
		for _, f := range p.examine() {
			if f.Check != "upstream" {
				continue
			}
			worst = Worst([]Finding{{Level: worst}, f})
			step := f.Text
			if _, after, ok := strings.Cut(f.Text, "://"); ok {
				_, step, _ = strings.Cut(after, ": ")
			}
			fmt.Fprintf(&text, "%s %s -> %s\n", f.Level, step, f.Remedy)
		}
		got := text.String()
		if worst != tt.worst {
			t.Errorf("%s: worst %s, want %s\n%s", tt.what, worst, tt.worst, got)
		}
		rest := got
		for _, want := range tt.wants {
			i := strings.Index(rest, want)
			if i < 0 {
				t.Errorf("%s: no %q in\n%s", tt.what, want, got)
				break
			}
			rest = rest[i:]
		}
		if strings.Contains(got, "hunter") {
			t.Errorf("%s: a password in\n%s", tt.what, got)
		}
	}
	running.Silent()
}
