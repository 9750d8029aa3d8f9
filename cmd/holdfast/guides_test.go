package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"holdfast/broker/brokertest"
)

// Beside the stand-ins, these are all the commands that a guide may use.
var (
	standIns = strings.Fields("apt apt-get aws chown findmnt holdfast install journalctl make mkfs.ext4 mount overlayroot-chroot raspi-config reboot rm scp ssh sudo systemctl")
	tools    = strings.Fields("awk cat chmod cp grep gzip id mkdir mosquitto mosquitto_passwd mosquitto_pub mosquitto_sub printf sed seq sh sha256sum sleep tar tee")
)

// TestGuides does what deploy/*.md say, section by section, from the top: each ```sh block is run by
// sh -eu, in a directory that stands for /, with only the commands above. What a block says is changed so:
//
//   - /etc, /var, /boot and /run are below that directory
//   - the gateway's ports 1883 and 1884, and port 1883 of broker.example, are free ones of this machine
//   - AWS is a port that is not open
//
// Each ```yaml block has to pass the check, and is what the gateway has in addition from there on. YAML of
// Home Assistant and ```json have to be well-formed, and the topics in them have to bring what they expect.
func TestGuides(t *testing.T) {
	files, err := filepath.Glob("../../deploy/*.md")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ran := 0
		for _, section := range strings.Split(string(text), "\n## ")[1:] {
			title, body, _ := strings.Cut(section, "\n")
			blocks := fenced.FindAllStringSubmatch(body, -1)
			ran += len(blocks)
			if len(blocks) > 0 {
				t.Run(filepath.Base(file)+"/"+title, func(t *testing.T) { newGuide(t).follow(blocks) })
			}
		}
		if marks := strings.Count(string(text), "\n```"); ran == 0 || marks%2 != 0 {
			t.Errorf("%s: %d blocks, %d fences", file, ran, marks)
		}
	}
}

// TestGuidesCanFail: slips of the pen that TestGuides has to find.
func TestGuidesCanFail(t *testing.T) {
	g := newGuide(t)
	for _, slip := range []string{
		"sudo systemclt restart holdfast",
		"sudo systemctl restrat holdfast",
		"sudo systemctl restart holdfat",
		"sudo holdfast chek",
		"sudo holdfast check -c /etc/holdfast/nothing.yaml",
		"sudo holdfast doctor --bundel x",
		"sudo -u holdfats holdfast doctor",
		"sudo apt instal mosquitto",
		"sudo apt install mosquito",
		"sudo apt install ./holdfast_1.0.0_arm.deb",
		"sudo raspi-config nonint do_i2s 0",
		"sudo mount /var/lib/holdfast", // before it is in fstab
		"scp nothing pi@raspberrypi.local:",
		"sudo chown holdfast /etc/holdfast/holdfast.yaml",
		"holdfast read --driver bme820 --bus i2c-1",
		"aws iot create-thing --name pi",
		"make pakage",
		"nano /etc/fstab",
		"sudo rm -r /var/lib/holdfast",
		"false\ntrue",
	} {
		if said, err := g.try(absolute.ReplaceAllString(slip, "${1}"+g.root+"/$2")); err == nil {
			t.Errorf("%s: no error\n%s", slip, said)
		}
	}
}

// TestDoctorsGuides: doctor sends people to these places.
func TestDoctorsGuides(t *testing.T) {
	text, err := os.ReadFile("../../deploy/guides.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n## Read-only root\n", "\n## Hardware watchdog\n", "/etc/systemd/system.conf.d/watchdog.conf"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("guides.md has no %q", want)
		}
	}
}

var (
	fenced   = regexp.MustCompile("(?ms)^```(sh|yaml|json)\n(.*?)^```$")
	absolute = regexp.MustCompile(`(?m)(^|[\s"'=])/(etc|var|boot|run)\b`)
	topics   = regexp.MustCompile(`(?m)(?:topic|"topic"): "?([^\s",]+)`)
	wanted   = regexp.MustCompile(`(?:value_json|payload)\.(\w+)`)
)

// guide is a section in the course of being followed.
type guide struct {
	t      *testing.T
	root   string
	env    []string
	moved  *strings.Replacer
	layers int
}

func newGuide(t *testing.T) *guide {
	brokertest.Program(t, "mosquitto")
	root, err := os.MkdirTemp("", "guide-") // short: a socket's path in it has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	port := func() string {
		_, p, _ := net.SplitHostPort(brokertest.FreeAddress(t))
		return p
	}
	local, open, upstream := port(), port(), port()
	g := &guide{t: t, root: root, moved: strings.NewReplacer(
		"127.0.0.1:1883", "127.0.0.1:"+local,
		"127.0.0.1:1884", "127.0.0.1:"+open,
		"0.0.0.0:1884", "127.0.0.1:"+open,
		"raspberrypi.local:1884", "127.0.0.1:"+open,
		"-h raspberrypi.local -p 1884", "-h 127.0.0.1 -p "+open,
		"broker.example:1883", "127.0.0.1:"+upstream,
		"-h broker.example", "-h 127.0.0.1 -p "+upstream,
		"--confirm-within 5m", "--confirm-within 2s",
		"listener 1883", "listener "+upstream+" 127.0.0.1",
		"a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com", "127.0.0.1",
	)}
	t.Cleanup(func() {
		for _, name := range []string{"holdfast", "mosquitto"} {
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(root, name+".log"))
				t.Logf("%s:\n%s", name, log)
			}
		}
		g.run("holdfast and mosquitto are stopped", "systemctl stop holdfast; kill $(cat "+root+"/mosquitto.pid) 2>/dev/null || :")
		os.RemoveAll(root)
	})

	standIn, err := filepath.Abs("testdata/guides/stand-in")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "home", "etc/holdfast", "etc/mosquitto/conf.d", "var/lib/holdfast"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, from string) {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range standIns {
		link(standIn, "bin/"+name)
	}
	link(standIn, "home/install.sh")
	find := func(name string) string {
		if strings.HasPrefix(name, "mosquitto") {
			return brokertest.Program(t, name)
		}
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range tools {
		link(find(name), "bin/"+name)
	}
	cert, key := brokertest.NewAuthority(t).Issue("pi")

	const deb = "holdfast_1.0.0_arm64.deb"
	g.write("home/"+deb, "a package")
	g.write("home/SHA256SUMS", fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte("a package")), deb))
	g.write("etc/fstab", "")
	g.write("etc/log2ram.conf", "PATH_DISK=\"/var/log\"\n")
	g.write("test.yaml", "data_dir: "+root+"/var/lib/holdfast\nweb: {url: off}\njournal: {keep_free: 0B, max_size: 32MiB}\n")
	here, _ := os.Getwd()
	g.env = []string{"PATH=" + root + "/bin", "LC_ALL=C.UTF-8", "ROOT=" + root, "PORT=" + local, "HOLDFAST=" + program, "INSTALL=" + find("install"), "RM=" + find("rm"), "CERT=" + cert, "KEY=" + key,
		"MAKEFILE=" + filepath.Join(here, "../../Makefile"), "PACKAGE=" + filepath.Join(here, "../../deploy/package")}
	g.run("first configuration", "holdfast init --device pi --yes")
	return g
}

func (g *guide) write(name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.root, name), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// run is for what has to succeed.
func (g *guide) run(what, block string) string {
	g.t.Helper()
	said, err := g.try(block)
	if err != nil {
		g.t.Errorf("%s: %v\n%s", what, err, said)
	}
	return said
}

// try runs a block in the shell. Every question for a password gets the answer secret.
func (g *guide) try(block string) (string, error) {
	g.t.Helper()
	c := exec.Command(filepath.Join(g.root, "bin/sh"), "-eu", "-c", block)
	c.Dir, c.Env, c.Stdin = filepath.Join(g.root, "home"), g.env, strings.NewReader("secret\n")
	// To a file: a gateway that is started in the background keeps it open.
	out, err := os.Create(filepath.Join(g.root, "output"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	err = c.Run()
	said, _ := os.ReadFile(out.Name())
	return string(said), err
}

func (g *guide) follow(blocks [][]string) {
	t := g.t
	var others []string
	for _, b := range blocks {
		if strings.Contains(b[2], "systemctl stop holdfast") || strings.Contains(b[2], "holdfast config apply") { // so it has been running
			g.run("start", "systemctl start holdfast")
			break
		}
	}
	for _, b := range blocks {
		kind, text := b[1], b[2]
		here := absolute.ReplaceAllString(g.moved.Replace(text), "${1}"+g.root+"/$2")
		switch {
		case kind == "sh":
			g.run(text, here)
		case kind == "yaml" && !strings.Contains(text, "# Home Assistant"):
			name := fmt.Sprintf("etc/holdfast/layer-%d.yaml", g.layers)
			g.layers++
			g.write(name, here)
			g.run(text, "holdfast check -c "+filepath.Join(g.root, name))
		case kind == "yaml":
			var any map[string]any
			if err := yaml.Unmarshal([]byte(text), &any); err != nil || len(any) == 0 {
				t.Errorf("%v in\n%s", err, text)
			}
			others = append(others, text)
		case !json.Valid([]byte(text)):
			t.Errorf("no JSON:\n%s", text)
		default:
			others = append(others, text)
		}
		if t.Failed() {
			return
		}
	}
	if policy, err := os.ReadFile(filepath.Join(g.root, "home/policy.json")); err == nil && !json.Valid(policy) {
		t.Errorf("no JSON: %s", policy)
	}
	for _, text := range others {
		g.expect(text)
	}
}

// expect waits for a message on every topic that another program's text names, and looks for the keys
// that it takes from them in one of these.
func (g *guide) expect(text string) {
	named := topics.FindAllStringSubmatch(text, -1)
	if len(named) == 0 {
		g.t.Errorf("no topics in\n%s", text)
	}
	came := g.run("start", "systemctl start holdfast")
	seen := map[string]bool{}
	for _, m := range named {
		if !seen[m[1]] {
			seen[m[1]] = true
			came += g.run(m[0], "holdfast sub -C 1 -W 20 -t "+m[1])
		}
	}
	for _, m := range wanted.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(came, `"`+m[1]+`":`) {
			g.t.Errorf("no %q in\n%s", m[1], came)
		}
	}
}
