// Package brokertest helps tests of several packages: it runs a real Mosquitto or RabbitMQ, and has an MQTT client, a
// proxy and an authority.
//
// A process that it starts listens when Start returns, and has ended when the test ends. It is for tests only.
package brokertest

import (
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
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/broker/faultnet"
)

// startTimeout is far beyond what a start takes on a loaded machine.
const startTimeout = 30 * time.Second

// MosquittoOptions configure a Mosquitto. The zero value is anonymous and keeps nothing on disk.
type MosquittoOptions struct {
	Persistence bool     // saves its state at every change, so that Kill loses nothing
	MaxQueued   int      // max_queued_messages; 0 means no limit
	Extra       []string // further lines of the configuration
}

// Mosquitto is a broker process on a loopback port, which stays the same over restarts.
type Mosquitto struct {
	t       testing.TB
	program string
	address string
	others  []string // addresses of further listeners
	config  string

	mu     sync.Mutex
	cmd    *exec.Cmd // nil while it is not running
	exited chan struct{}
	output *bytes.Buffer // its log; read after exited
}

// StartMosquitto starts a Mosquitto. It fails the test if that is not possible, and skips it in short mode: see Program.
func StartMosquitto(t testing.TB, opts MosquittoOptions) *Mosquitto {
	t.Helper()
	program := Program(t, "mosquitto")
	dir := t.TempDir()
	m := &Mosquitto{t: t, program: program, address: FreeAddress(t), config: filepath.Join(dir, "mosquitto.conf")}
	_, port, _ := net.SplitHostPort(m.address)
	lines := []string{
		"listener " + port + " 127.0.0.1",
		"allow_anonymous true",
		"max_queued_messages " + strconv.Itoa(opts.MaxQueued),
		"log_dest stderr",
		"persistence " + strconv.FormatBool(opts.Persistence),
	}
	if u, err := user.Current(); err == nil {
		lines = append(lines, "user "+u.Username) // as root it would change to a user that cannot write here
	}
	if opts.Persistence {
		lines = append(lines, "persistence_location "+dir+"/", "autosave_on_changes true", "autosave_interval 1")
	}
	lines = append(lines, opts.Extra...)
	for _, line := range opts.Extra {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "listener" {
			m.others = append(m.others, net.JoinHostPort(f[2], f[1]))
		}
	}
	if err := os.WriteFile(m.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	m.Start()
	return m
}

// FreeAddress is link.FreeAddress.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := faultnet.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Addr returns host:port.
func (m *Mosquitto) Addr() string { return m.address }

// URL returns mqtt://host:port.
func (m *Mosquitto) URL() string { return "mqtt://" + m.address }

// Start starts the process again after Stop or Kill, and returns when it listens. It must be called
// from the test's goroutine.
func (m *Mosquitto) Start() {
	m.t.Helper()
	if err := m.start(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *Mosquitto) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil {
		return errors.New("mosquitto is already running")
	}
	cmd := exec.Command(m.program, "-c", m.config)
	log := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	m.cmd, m.exited, m.output = cmd, make(chan struct{}), log
	go func(exited chan struct{}) {
		_ = cmd.Wait() // Kill makes it an error
		close(exited)
	}(m.exited)
	var err error
	for _, address := range append([]string{m.address}, m.others...) { // WebSocket listeners come later than the first
		if err == nil {
			err = m.listening(address)
		}
	}
	if err != nil {
		_ = cmd.Process.Kill()
		<-m.exited
		m.cmd = nil
		return fmt.Errorf("%w\n%s", err, log)
	}
	return nil
}

// listening waits until an attempt to connect succeeds.
func (m *Mosquitto) listening(address string) error {
	deadline := time.After(startTimeout)
	try := time.NewTicker(2 * time.Millisecond)
	defer try.Stop()
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		select {
		case <-try.C:
		case <-m.exited:
			return errors.New("mosquitto ended at once")
		case <-deadline:
			return fmt.Errorf("mosquitto does not listen on %s", address)
		}
	}
}

// Kill ends the process with SIGKILL and waits for its end. It does nothing if no process runs.
func (m *Mosquitto) Kill() { m.end(syscall.SIGKILL) }

// Stop ends the process in order (SIGTERM) and waits for its end.
func (m *Mosquitto) Stop() { m.end(syscall.SIGTERM) }

func (m *Mosquitto) end(signal syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(signal) // fails only if it has ended
	<-m.exited
	if m.t.Failed() {
		m.t.Logf("mosquitto on %s:\n%s", m.address, m.output)
	}
	m.cmd = nil
}
