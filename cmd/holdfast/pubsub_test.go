package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/broker/brokertest"
)

// serve runs a gateway with this configuration for its broker, whose first listener is at {addr}.
func serve(t *testing.T, broker string) *process {
	t.Helper()
	g := &process{t: t, dir: t.TempDir(), addr: brokertest.FreeAddress(t), log: new(bytes.Buffer)}
	text := "data_dir: " + filepath.Join(g.dir, "data") + "\nweb: {url: off}\njournal: {max_size: 64MiB, keep_free: 0B}\n" + broker
	g.base = g.write("gateway.yaml", strings.ReplaceAll(text, "{addr}", g.addr))
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			t.Logf("gateway:\n%s", g.log)
		}
	})
	must(t, holdfast(t, "", "check", "-c", g.base))
	g.start(g.base)
	return g
}

const openBroker = "broker:\n  listeners:\n    - url: mqtt://{addr}\n"

// result is what a program wrote and how it ended.
type result struct {
	out, errs string
	code      int
}

// holdfast runs the program to its end.
func holdfast(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(t, cmd)
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must is for a program that has to succeed.
func must(t *testing.T, r result) string {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.errs)
	}
	return r.out
}

// listener is a program that prints what it receives. Its first line is what was retained at "ready", so
// that a test knows when it listens.
type listener struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Reader
	errs  bytes.Buffer
}

func listenWith(t *testing.T, name string, args ...string) *listener {
	t.Helper()
	return listenCommand(t, exec.Command(name, args...))
}

func listenCommand(t *testing.T, cmd *exec.Cmd) *listener {
	t.Helper()
	l := &listener{t: t, cmd: cmd}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.cmd.Stderr = &l.errs
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	l.lines = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { l.cmd.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		l.cmd.Process.Kill()
		l.cmd.Wait()
	})
	return l
}

// line returns the next line.
func (l *listener) line() string {
	l.t.Helper()
	s, err := l.lines.ReadString('\n')
	if err != nil {
		l.cmd.Wait()
		l.t.Fatalf("%v: after %q: %v: %s", l.cmd.Args, s, err, &l.errs)
	}
	return strings.TrimSuffix(s, "\n")
}

// code waits for the end.
func (l *listener) code() int {
	l.t.Helper()
	io.Copy(io.Discard, l.lines)
	l.cmd.Wait()
	return l.cmd.ProcessState.ExitCode()
}

// places are the brokers and ways that pub and sub are tested with: flags for each.
func places(t *testing.T) map[string][]string {
	ca := brokertest.NewAuthority(t)
	cert, key := ca.Issue("server")
	ws, wss, tls := brokertest.FreeAddress(t), brokertest.FreeAddress(t), brokertest.FreeAddress(t)
	socket := filepath.Join(t.TempDir(), "s")
	g := serve(t, fmt.Sprintf(openBroker+`    - {url: "ws://%s/mqtt"}
    - {url: "wss://%s", cert: %s, key: %s}
    - {url: "mqtts://%s", cert: %[3]s, key: %[4]s}
    - {url: "unix://%[6]s"}
`, ws, wss, cert, key, tls, socket))
	host, port, _ := net.SplitHostPort(g.addr)
	theirs, theirWS := brokertest.FreeAddress(t), brokertest.FreeAddress(t)
	_, theirPort, _ := net.SplitHostPort(theirs)
	_, theirWSPort, _ := net.SplitHostPort(theirWS)
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Extra: []string{
		"listener " + theirPort + " 127.0.0.1", "certfile " + cert, "keyfile " + key,
		"listener " + theirWSPort + " 127.0.0.1", "protocol websockets",
	}})
	return map[string][]string{
		"host and port":        {"-h", host, "-p", port},
		"mqtts":                {"--url", "mqtts://" + tls, "--ca", ca.File},
		"ws":                   {"--url", "ws://" + ws + "/mqtt"},
		"wss":                  {"--url", "wss://" + wss, "--insecure"},
		"unix":                 {"--url", "unix://" + socket},
		"Mosquitto":            {"--url", m.URL()},
		"Mosquitto, TLS":       {"--url", "mqtts://" + theirs, "--ca", ca.File},
		"Mosquitto, WebSocket": {"--url", "ws://" + theirWS},
	}
}

func TestPubAndSub(t *testing.T) {
	for name, at := range places(t) {
		for _, version := range []string{"5", "3.1.1"} {
			t.Run(name+", "+version, func(t *testing.T) {
				at := append([]string{"-V", version}, at...)
				pub := func(stdin string, args ...string) {
					t.Helper()
					must(t, holdfast(t, stdin, append(append([]string{"pub"}, at...), args...)...))
				}
				pub("", "-t", "ready", "-m", "ready", "-r", "-q", "1")
				sub := listenWith(t, program, append([]string{"sub", "-t", "ready", "-t", "t/#", "-q", "2", "-v", "-C", "9"}, at...)...)
				want := []string{"ready ready"}
				if got := sub.line(); got != want[0] {
					t.Fatalf("got %q", got)
				}
				pub("", "-t", "t/0", "-m", "zero", "-q", "0")
				for i := range 3 {
					if got := sub.line(); i == 0 && got != "t/0 zero" {
						t.Errorf("got %q", got)
					} else if i == 0 {
						pub("", "-t", "t/1", "-m", "one", "-q", "1", "--repeat", "2")
					} else if got != "" && i > 0 && got != "t/1 one" {
						t.Errorf("got %q", got)
					}
				}
				pub("a\n\nb", "-t", "t/2", "-l", "-q", "2")
				pub("first\nsecond\n", "-t", "t/f", "-f", "-", "-q", "1")
				pub("", "-t", "t/n", "-n", "-q", "1")
				for _, want := range []string{"t/2 a", "t/2 ", "t/2 b", "t/f first", "second", "", "t/n "} {
					if got := sub.line(); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
				}
				if code := sub.code(); code != 0 {
					t.Errorf("exit code %d: %s", code, &sub.errs)
				}
				pub("", "-t", "ready", "-n", "-r", "-q", "1")
			})
		}
	}
}

// TestSubFormats: what is printed, on our broker and on Mosquitto.
func TestSubFormats(t *testing.T) {
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	for name, url := range map[string]string{"ours": "mqtt://" + serve(t, openBroker).addr, "Mosquitto": m.URL()} {
		t.Run(name, func(t *testing.T) {
			at := []string{"--url", url}
			pub := func(args ...string) {
				t.Helper()
				must(t, holdfast(t, "", append(append([]string{"pub", "-q", "1", "-r"}, at...), args...)...))
			}
			sub := func(args ...string) string {
				t.Helper()
				return must(t, holdfast(t, "", append(append([]string{"sub", "-W", "20"}, at...), args...)...))
			}
			pub("-t", "a", "-m", `{"value":21.5,"unit":"°C"}`, "--content-type", "application/json", "--response-topic", "re/ply",
				"--correlation", "\x01\x02", "--user-property", "site=north", "--user-property", "site=a=b", "--utf8", "--expiry", "1h")
			pub("-t", "b", "-m", "text \"<1>\"")
			must(t, holdfast(t, "\xff\x00", append([]string{"pub", "-q", "1", "-r", "-t", "c", "-f", "-"}, at...)...))
			for _, tt := range []struct{ format, want string }{
				{"text", `{"value":21.5,"unit":"°C"}` + "\n"},
				{"hex", "7b2276616c7565223a32312e352c22756e6974223a22c2b043227d\n"},
				{`%t|%q|%r|%l|%%|%C|%R|%x\n%S\c`, "a|0|1|27|%|application/json|re/ply|7b2276616c7565223a32312e352c22756e6974223a22c2b043227d\n7"},
				{`%P`, "site:north site:a=b\n"},
			} {
				if got := sub("-t", "a", "-C", "1", "--subscription-id", "7", "-F", tt.format); got != tt.want {
					t.Errorf("%s: got %q, want %q", tt.format, got, tt.want)
				}
			}
			var seen []map[string]any
			out := sub("-t", "a", "-t", "b", "-t", "c", "-C", "3", "-q", "1", "--format", "json")
			for line := range strings.Lines(out) {
				var v map[string]any
				if err := json.Unmarshal([]byte(line), &v); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				if _, err := time.Parse(time.RFC3339, v["time"].(string)); err != nil {
					t.Error(err)
				}
				if e, ok := v["expiry"].(float64); ok && (e < 3000 || e > 3600) {
					t.Errorf("expiry %v", e)
				}
				for _, k := range []string{"time", "mid", "expiry"} {
					delete(v, k)
				}
				seen = append(seen, v)
			}
			got, _ := json.Marshal(seen)
			want := `[{"content_type":"application/json","correlation_base64":"AQI=","length":27,"payload":{"unit":"°C","value":21.5},"qos":1,"response_topic":"re/ply","retain":true,"topic":"a","user_properties":[{"site":"north"},{"site":"a=b"}]},` +
				`{"length":10,"payload":"text \"\u003c1\u003e\"","qos":1,"retain":true,"topic":"b"},{"length":2,"payload_base64":"/wA=","qos":1,"retain":true,"topic":"c"}]`
			if string(got) != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestSubEnds: every way in which sub ends, and its exit code.
func TestSubEnds(t *testing.T) {
	m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	ours := serve(t, openBroker)
	for name, url := range map[string]string{"ours": "mqtt://" + ours.addr, "Mosquitto": m.URL()} {
		for _, version := range []string{"5", "3.1.1"} {
			t.Run(name+", "+version, func(t *testing.T) {
				at := []string{"--url", url, "-V", version}
				run := func(args ...string) result {
					t.Helper()
					return holdfast(t, "", append(args, at...)...)
				}
				must(t, run("pub", "-t", "kept", "-m", "1", "-r", "-q", "1"))
				if r := run("sub", "-t", "kept", "-C", "2", "-W", "2"); r.code != 3 || r.out != "1\n" {
					t.Errorf("too few: %+v", r)
				}
				if r := run("sub", "-t", "kept", "-W", "2s"); r.code != 0 || r.out != "1\n" {
					t.Errorf("time: %+v", r)
				}
				if r := run("sub", "-t", "kept", "-R", "-C", "1", "-W", "500ms"); r.code != 3 || r.out != "" {
					t.Errorf("nothing retained: %+v", r)
				}
				sub := listenWith(t, program, append([]string{"sub", "-t", "#", "--retained-only", "-v"}, at...)...)
				if got := sub.line(); got != "kept 1" {
					t.Errorf("got %q", got)
				}
				must(t, run("pub", "-t", "new", "-m", "2", "-q", "1"))
				if code := sub.code(); code != 0 {
					t.Errorf("after the retained ones: %d", code)
				}
				sub = listenWith(t, program, append([]string{"sub", "-t", "kept"}, at...)...)
				sub.line()
				sub.cmd.Process.Signal(os.Interrupt)
				if code := sub.code(); code != 0 {
					t.Errorf("Ctrl-C: %d %s", code, &sub.errs)
				}
				// A session that is kept: what came meanwhile, each once.
				keep := []string{"sub", "-t", "s", "-q", "1", "-c", "-i", "keeper" + version}
				if version == "5" {
					keep = append(keep, "-x", "1h")
				}
				if r := run(append(keep, "-W", "200ms")...); r.code != 0 {
					t.Errorf("%+v", r)
				}
				for i := range 4 {
					must(t, run("pub", "-t", "s", "-m", fmt.Sprint(i), "-q", "1"))
				}
				for _, want := range []string{"0\n1\n", "2\n3\n"} {
					if r := run(append(keep, "-C", "2", "-W", "20s")...); r.code != 0 || r.out != want {
						t.Errorf("%+v, want %q", r, want)
					}
				}
			})
		}
	}
	sub := listenWith(t, program, "sub", "--url", "mqtt://"+ours.addr, "-t", "kept")
	sub.line()
	ours.kill()
	if code := sub.code(); code != 1 || !strings.Contains(sub.errs.String(), "connection lost") {
		t.Errorf("a lost connection: %d %s", code, &sub.errs)
	}
}

func TestPubAndSubMistakes(t *testing.T) {
	nobody := brokertest.FreeAddress(t)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"pub", "-m", "x"}, 2, "give a topic"},
		{[]string{"pub", "-t", "a"}, 2, "give one of -m"},
		{[]string{"pub", "-t", "a", "-m", "x", "-n"}, 2, "give one of -m"},
		{[]string{"pub", "-t", "a/#", "-m", "x"}, 2, "wildcard"},
		{[]string{"pub", "-t", "a", "-m", "x", "-q", "3"}, 2, "want 0, 1 or 2"},
		{[]string{"pub", "-t", "a", "-m", "x", "-P", "hunter2"}, 2, "--password-file"},
		{[]string{"pub", "-t", "a", "-m", "x", "--url", "mqtt://me:hunter2@h"}, 2, "no name and password in a URL"},
		{[]string{"pub", "-t", "a", "-m", "x", "--url", "http://h"}, 2, "want mqtt://"},
		{[]string{"pub", "-t", "a", "-m", "x", "--url", "mqtt://h", "-p", "1"}, 2, "one or the other"},
		{[]string{"pub", "-t", "a", "-m", "x", "--url", "mqtt://h", "--ca", "c"}, 2, "this is mqtt"},
		{[]string{"pub", "-t", "a", "-m", "x", "--ca", "/none"}, 2, "ca /none: no such file"},
		{[]string{"pub", "-t", "a", "-m", "x", "--cert", "c"}, 2, "go together"},
		{[]string{"pub", "-t", "a", "-m", "x", "--password-file", "/none"}, 2, "--password-file: open /none"},
		{[]string{"pub", "-t", "a", "-m", "x", "--password-file", "-"}, 2, "needs --user"},
		{[]string{"pub", "-t", "a", "-m", "x", "-V", "3.1.1", "--utf8"}, 2, "no properties"},
		{[]string{"pub", "-t", "a", "-f", "/none"}, 2, "open /none"},
		{[]string{"pub", "-t", "a", "-m", "x", "--user-property", "x"}, 2, "NAME=VALUE"},
		{[]string{"pub", "-t", "a", "-m", "x", "--url", "mqtt://" + nobody}, 1, "connection refused"},
		{[]string{"sub"}, 2, "give a topic filter"},
		{[]string{"sub", "-t", "a#"}, 2, "malformed"},
		{[]string{"sub", "-t", "a", "-F", "yaml"}, 2, "want text, json, hex"},
		{[]string{"sub", "-t", "a", "-F", "%y"}, 2, "unknown %y"},
		{[]string{"sub", "-t", "a", "-F", "%"}, 2, "nothing after the last %"},
		{[]string{"sub", "-t", "a", "-F", "json", "-v"}, 2, "--verbose"},
		{[]string{"sub", "-t", "a", "-c"}, 2, "needs --id"},
		{[]string{"sub", "-t", "a", "-V", "4.2"}, 2, "want 5 or 3.1.1"},
		{[]string{"sub", "-t", "a", "-W", "soon"}, 2, "want seconds"},
		{[]string{"sub", "-t", "a", "-V", "3.1.1", "--no-local"}, 2, "of MQTT 5"},
		{[]string{"sub", "-t", "a", "stray"}, 2, "unexpected argument"},
		{[]string{"sub", "-t", "a", "--url", "ws://" + nobody}, 1, "connection refused"},
		{[]string{"sub", "-t", "a", "--url", "unix:///none/such"}, 1, "no such file"},
	} {
		r := holdfast(t, "secret\n", tt.args...)
		if r.code != tt.code || !strings.Contains(r.errs, tt.want) || r.out != "" || strings.Contains(r.errs, "hunter2") {
			t.Errorf("%v: got %+v, want code %d and %q", tt.args, r, tt.code, tt.want)
		}
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, version := range []string{"5", "3.1.1"} {
		r := holdfast(t, "", "sub", "-t", "a", "--url", "mqtt://"+silent.Addr().String(), "--timeout", "200ms", "-V", version)
		if r.code != 1 || !strings.Contains(r.errs, "no answer within 200ms") {
			t.Errorf("a broker that says nothing: %+v", r)
		}
	}
	for _, command := range []string{"pub", "sub", "passwd"} {
		if r := holdfast(t, "", command, "--help"); r.code != 0 || !strings.Contains(r.out, "Examples:") {
			t.Errorf("%s --help: %+v", command, r)
		}
	}
}
