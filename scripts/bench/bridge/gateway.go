package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"time"

	"holdfast/broker/faultnet"
	"holdfast/scripts/child"
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

	*child.Process // nil before the first start
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
	path, err := child.Find("mosquitto")
	if err != nil {
		return nil, err
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
	var output child.Tail
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stderr = &output
	var err error
	if p.Process, err = child.Start(cmd); err != nil {
		return 0, err
	}
	took, err := p.Ready(5*time.Minute, time.Millisecond, func() error {
		c, err := connect(p.addr, "probe")
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		p.kill()
		return 0, fmt.Errorf("%s accepts no connection: %w: %s", p.kind, err, &output)
	}
	return took, nil
}

// kill ends the process, if it runs, as a loss of power does.
func (p *process) kill() {
	if p.Process != nil {
		p.Kill()
	}
}
