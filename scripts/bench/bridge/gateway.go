package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/broker/faultnet"
)

// The gateways that are compared: ours, and Mosquitto as a careful user sets it up.
const (
	ours     = "holdfast"
	autosave = "mosquitto, autosave 1 s"
	safest   = "mosquitto, safest"
)

// process is a broker that can be ended and started again where it was.
type process struct {
	kind string
	args []string
	addr string
	cmd  *exec.Cmd
}

// newGateway prepares a gateway that hands on bench/# to upstream.
func newGateway(kind, program, dir, upstream string) (*process, error) {
	addr, err := faultnet.FreeAddress()
	if err != nil {
		return nil, err
	}
	if kind == ours {
		file := filepath.Join(dir, "holdfast.yaml")
		text := fmt.Sprintf(`device: {id: bench}
data_dir: %q
broker:
  listeners: [{url: "mqtt://%s"}]
journal: {max_size: 16GiB}
bridges:
  - name: up
    protocol: 3.1.1
    upstream: ["mqtt://%s"]
    out: [{filter: "bench/#"}]
`, filepath.Join(dir, "data"), addr, upstream)
		return &process{kind: kind, args: []string{program, "run", "-c", file}, addr: addr}, os.WriteFile(file, []byte(text), 0o600)
	}
	text := "persistence true\npersistence_location " + dir + "/\nautosave_interval 1\n" +
		"connection up\naddress " + upstream + "\ntopic bench/# out 1\ncleansession false\nrestart_timeout 1\n" +
		"notifications false\ntry_private false\n"
	if kind == safest {
		text = "autosave_on_changes true\n" + text
	}
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on everybody's path
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(dir, "mosquitto.conf")
	text = "listener " + port + " 127.0.0.1\nallow_anonymous true\nlog_type error\nuser " + me.Username + "\n" +
		"max_queued_messages 0\nmax_inflight_messages 100\n" + text
	return &process{kind: kind, args: []string{path, "-c", file}, addr: addr}, os.WriteFile(file, []byte(text), 0o600)
}

// start returns when a client has been let in, and how long that took.
func (p *process) start() (time.Duration, error) {
	var said bytes.Buffer
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stderr = &said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		return 0, err
	}
	for time.Since(begun) < 5*time.Minute {
		if c, err := connect(p.addr, "probe"); err == nil {
			c.Close()
			return time.Since(begun), nil
		}
		time.Sleep(time.Millisecond)
	}
	p.end(syscall.SIGKILL)
	return 0, fmt.Errorf("%s lets nobody in: %s", p.kind, said.Bytes())
}

func (p *process) end(signal syscall.Signal) {
	if p.cmd != nil {
		p.cmd.Process.Signal(signal)
		p.cmd.Wait()
		p.cmd = nil
	}
}

// cpu is the time that the process has computed, in user and kernel mode.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold blanks
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, errors.New("stat is too short")
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2) // a tick is 1/100 s on every Linux
}

// rss is the process's resident memory in MiB.
func (p *process) rss() (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("no VmRSS")
}
