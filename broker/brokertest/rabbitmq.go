package brokertest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rabbitProgram is not the wrapper of the same name on the path, which changes the user.
const rabbitProgram = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// RabbitMQ is a node with the MQTT plugin, whose queues of QoS 1 are on its disk. It speaks 3.1.1 and accepts
// anonymous clients.
type RabbitMQ struct {
	t       testing.TB
	address string
	env     []string
	cmd     *exec.Cmd     // nil while it is not running
	exited  chan struct{} // and its log is complete
}

// StartRabbitMQ starts a node, with a name service of its own, and returns when it listens. It skips the test in short
// mode: see Program.
func StartRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	Program(t, rabbitProgram)
	dir := t.TempDir()
	r := &RabbitMQ{t: t, address: FreeAddress(t)}
	port := func() string { _, p, _ := net.SplitHostPort(FreeAddress(t)); return p }
	names := port()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r.env = append(os.Environ(), "HOME="+dir, "RABBITMQ_NODENAME=test@localhost", "RABBITMQ_DIST_PORT="+port(),
		"ERL_EPMD_PORT="+names, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE="+dir, "RABBITMQ_LOG_BASE="+dir, "RABBITMQ_LOGS=-", "RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"),
		"RABBITMQ_CONF_ENV_FILE="+write("env.conf", ""),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+write("plugins", "[rabbitmq_mqtt].\n"),
		"RABBITMQ_CONFIG_FILE="+write("rabbitmq.conf", "listeners.tcp = none\nmqtt.listeners.tcp.1 = "+r.address+
			"\nmqtt.allow_anonymous = true\nmqtt.prefetch = 100\n"),
	)
	epmd := exec.Command(Program(t, "epmd"))
	epmd.Env = r.env
	epmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := epmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Kill()
		_ = epmd.Process.Kill()
		_ = epmd.Wait() // was killed
	})
	r.Start()
	return r
}

// Addr returns host:port.
func (r *RabbitMQ) Addr() string { return r.address }

// URL returns mqtt://host:port.
func (r *RabbitMQ) URL() string { return "mqtt://" + r.address }

// Start starts the node again after Kill, with what it had on disk.
func (r *RabbitMQ) Start() {
	r.t.Helper()
	log := new(bytes.Buffer)
	r.cmd, r.exited = exec.Command(rabbitProgram), make(chan struct{})
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = r.env, log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // it is a script and what that starts
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // Kill makes it an error
		close(exited)
	}(r.cmd, r.exited)
	if err := r.listening(); err != nil {
		r.Kill()
		r.t.Fatalf("%v\n%s", err, strings.ToValidUTF8(log.String(), ""))
	}
}

func (r *RabbitMQ) listening() error {
	for begun := time.Now(); ; {
		if c, err := net.Dial("tcp", r.address); err == nil {
			return c.Close()
		}
		select {
		case <-r.exited:
			return errors.New("rabbitmq ended")
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(begun) > 4*startTimeout {
			return errors.New("rabbitmq does not listen")
		}
	}
}

// Kill ends the node without warning. It does nothing if no node runs.
func (r *RabbitMQ) Kill() {
	if r.cmd == nil {
		return
	}
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.exited
	r.cmd = nil
}
