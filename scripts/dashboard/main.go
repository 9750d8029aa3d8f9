// Dashboard drives the gateway's web page in a headless Chromium, as people do: it looks, switches an
// output, logs in, turns the phone. It fails if something does not show, if any request leaves the device,
// if the page is heavy, if it scrolls sideways on a phone, or if the browser complains. Figures and
// pictures are its result.
package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"holdfast/broker/faultnet"
	"holdfast/scripts/child"
)

func main() {
	program := flag.String("holdfast", "bin/holdfast", "the program to look at")
	pictures := flag.String("pictures", "", "directory for screenshots; empty for none")
	flag.Parse()
	if err := run(*program, *pictures); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(program, pictures string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "holdfast-dashboard-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if pictures != "" {
		if err := os.MkdirAll(pictures, 0o755); err != nil {
			return err
		}
	}
	s := &site{program: program, dir: dir}
	if err := s.plan(); err != nil {
		return err
	}
	defer s.stop()
	b, err := newBrowser(ctx, pictures)
	if err != nil {
		return err
	}
	defer b.close()
	return errors.Join(local(s, b), opened(s, b), b.verdict())
}

// local is what who is on the device sees.
func local(s *site, b *browser) error {
	if err := s.start("gateway", s.gateway(false)); err != nil {
		return err
	}
	defer s.stop()
	b.base = "http://" + s.web
	return b.steps(
		step{"first paint", b.firstPaint},
		step{"live update", b.liveUpdate},
		step{"controls have names", b.names},
		step{"switch an output, by mouse and by keyboard", func() error { return b.switchOutput(s) }},
		step{"a refusal with its reason", b.refusal},
		step{"chart", b.chart},
		step{"outage and its end", func() error { return b.outage(s) }},
		step{"clients, log and configuration", b.otherViews},
		step{"dark", b.dark},
		step{"phone", b.phone},
		step{"the gateway goes and comes back", func() error { return b.goneAndBack(s) }},
		step{"weight", b.weight},
	)
}

// opened tries the page with a login, over https and with a self-signed certificate.
func opened(s *site, b *browser) error {
	if err := s.start("gateway", s.gateway(true)); err != nil {
		return err
	}
	defer s.stop()
	b.base = "https://" + s.web
	return b.steps(
		step{"login", b.login},
		step{"cookie", b.cookie},
		step{"content security policy", b.inline},
		step{"another web page", b.otherPage},
		step{"switch over https", b.remoteSwitch},
		step{"who may look cannot switch", b.lookOnly},
	)
}

// site runs programs in a directory of its own.
type site struct {
	program, dir                string
	web, broker, upstream, hash string
	running                     map[string]*child.Process
}

func (s *site) plan() (err error) {
	s.running = map[string]*child.Process{}
	for _, to := range []*string{&s.web, &s.broker, &s.upstream} {
		if *to, err = faultnet.FreeAddress(); err != nil {
			return err
		}
	}
	hash := exec.Command(s.program, "passwd")
	hash.Stdin = reader("open sesame")
	out, err := hash.Output()
	if err != nil {
		return fmt.Errorf("holdfast passwd: %w", err)
	}
	s.hash = trim(out)
	return s.certificate()
}

// certificate writes the one that Go's tests use, which is for 127.0.0.1 and self-signed.
func (s *site) certificate() error {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	cert := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(s.dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600),
		os.WriteFile(filepath.Join(s.dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}

// flood publishes more than the journal may keep.
func (s *site) flood() error {
	cmd := exec.Command(s.program, "pub", "--url", "mqtt://"+s.broker, "-t", "bulk", "-q", "1", "-f", "-", "--repeat", "400")
	cmd.Stdin = reader(strings.Repeat("x", 100<<10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("holdfast pub: %w: %s", err, out)
	}
	return nil
}

func (s *site) gateway(login bool) string {
	text := fmt.Sprintf(`device: {id: greenhouse-1}
data_dir: %s
journal: {max_size: 32MiB, keep_free: 0B}
bridges:
  - {name: cloud, upstream: ["mqtt://%s"], client_id: one, username: site, password: hunter22, out: [{filter: "sensors/#", prefix: "north/"}, {filter: "bulk"}]}
  - {name: office, upstream: ["mqtt://127.0.0.1:1"], client_id: two, out: [{filter: "status/#"}]}
sensors:
  - {name: air, driver: bme280, bus: simulated, every: 1s}
  - {name: tank, driver: ads1115, bus: simulated, every: 1s}
  - {name: soil, driver: ds18b20, bus: simulated, every: 2s}
  - {name: door, driver: gpio-input, bus: simulated, line: 17, every: 5s}
  - {name: board, driver: cpu, bus: simulated, every: 5s}
  - {name: shed, driver: bme280, bus: i2c-77, every: 5s}
outputs:
  - {name: pump, driver: gpio-output, bus: simulated, line: 22, safe: off, lease: 60s}
  - {name: drain, driver: gpio-output, bus: simulated, line: 23, safe: off, interlock: [pump]}
  - {name: fan, driver: pca9685, bus: simulated, channel: 0, safe: off}
`, filepath.Join(s.dir, "gateway"), s.upstream)
	if !login {
		return text + fmt.Sprintf("broker: {listeners: [{url: \"mqtt://%s\"}]}\nweb: {url: \"http://%s\"}\n", s.broker, s.web)
	}
	return text + fmt.Sprintf(`broker:
  listeners: [{url: "mqtt://%s"}]
  users:
    - {name: anna, password_hash: "%s"}
    - {name: ben, password_hash: "%[2]s"}
  acl: [{topic: "#", access: readwrite}]
web:
  url: https://%s
  cert: %s
  key: %s
  operate: [anna]
  view: [ben]
`, s.broker, s.hash, s.web, filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem"))
}

func (s *site) upstreamConfig() string {
	return fmt.Sprintf("data_dir: %s\nweb: {url: off}\njournal: {max_size: 64MiB, keep_free: 0B}\nbroker: {listeners: [{url: \"mqtt://%s\"}]}\n",
		filepath.Join(s.dir, "upstream"), s.upstream)
}

// start runs a gateway with a configuration until stop.
func (s *site) start(name, config string) error {
	file := filepath.Join(s.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(s.program, "run", "-c", file)
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := child.Start(cmd)
	if err != nil {
		return err
	}
	s.running[name] = p
	address := s.web
	if name == "upstream" {
		address = s.upstream
	}
	if _, err := p.Ready(patience, 50*time.Millisecond, func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	}); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s does not listen on %s: %w\n%s", name, address, err, text)
	}
	return nil
}

// stop ends some, or without names all.
func (s *site) stop(names ...string) {
	for name, p := range s.running {
		if len(names) == 0 || names[0] == name {
			_ = p.Stop(patience)
			delete(s.running, name)
		}
	}
}

// state is the retained state of an output, as other clients of the broker see it.
func (s *site) state(output string) (string, error) {
	cmd := exec.Command(s.program, "sub", "--url", "mqtt://"+s.broker, "-t", "outputs/greenhouse-1/"+output, "-C", "1", "-W", "5")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("holdfast sub: %w: %s", err, out)
	}
	return string(out), nil
}
