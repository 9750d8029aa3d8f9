package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/broker/faultnet"
	"holdfast/scripts/child"
)

// gateway is a process of the built binary, with its configuration and data in dir. Its methods are for one
// goroutine, but for the addresses and peak, which others may read.
type gateway struct {
	program, dir, config string
	mqtt, ws, web        string // addresses
	name                 string

	rights sync.Mutex // held by the only one that changes users and rights
	pile   sync.Mutex // held by the only one that uses the session of this name

	proc *child.Process // nil while none runs
	log  *os.File
	peak atomic.Int64 // largest resident memory in bytes since reset, from all processes
	stop context.CancelFunc
	life context.Context // of sample, and of what needs one while the process runs
	wait sync.WaitGroup
}

// newGateway gives a gateway free addresses. Its configuration is written by configure.
func newGateway(program, dir, name string) (*gateway, error) {
	g := &gateway{program: program, dir: dir, name: name, config: filepath.Join(dir, "holdfast.yaml")}
	for _, a := range []*string{&g.mqtt, &g.ws, &g.web} {
		var err error
		if *a, err = faultnet.FreeAddress(); err != nil {
			return nil, err
		}
	}
	return g, os.MkdirAll(g.data(), 0o700)
}

func (g *gateway) data() string    { return filepath.Join(g.dir, "data") }
func (g *gateway) logFile() string { return filepath.Join(g.dir, "log") }

// configure writes the part of the configuration that all have in common, and then more.
func (g *gateway) configure(limits, more string) error {
	text := fmt.Sprintf(`device: {id: %s}
data_dir: %q
control: %q
journal: {max_size: 64MiB, keep_free: 16MiB}
web: {url: "http://%s"}
broker:
  listeners:
    - {url: "mqtt://%s"}
    - {url: "ws://%s/mqtt"}
  anonymous: true
  limits: {%s}
`, g.name, g.data(), filepath.Join(g.dir, "c.sock"), g.web, g.mqtt, g.ws, limits) + more
	return os.WriteFile(g.config, []byte(text), 0o600)
}

// start returns when a CONNECT is answered, and how long that took.
func (g *gateway) start(most time.Duration) (time.Duration, error) {
	var err error
	if g.log, err = os.OpenFile(g.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return 0, err
	}
	cmd := exec.Command(g.program, "run", "-c", g.config)
	cmd.Stdout, cmd.Stderr = g.log, g.log
	if g.proc, err = child.Start(cmd); err != nil {
		g.log.Close()
		return 0, err
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop, g.life = stop, ctx
	g.wait.Go(func() { g.sample(ctx, g.proc) })
	took, err := g.proc.Ready(most, 2*time.Millisecond, func() error {
		c, err := open(g.mqtt, login{user: "writer", id: "probe", version: 5, clean: true}, most)
		if err == nil {
			c.close()
		}
		return err
	})
	if err != nil && !errors.Is(err, child.ErrEnded) {
		err = fmt.Errorf("no CONNACK: %w", err)
	}
	return took, err
}

// alive reports whether the process has not ended by itself.
func (g *gateway) alive() bool { return g.proc.Alive() }

func (g *gateway) kill() {
	if g.proc == nil {
		return
	}
	g.proc.Kill()
	g.stop()
	g.wait.Wait()
	g.log.Close()
	g.proc = nil
}

// dump ends the process with SIGQUIT, so that its log ends with every goroutine's stack.
func (g *gateway) dump() {
	if g.proc == nil || !g.alive() {
		return
	}
	g.proc.Signal(syscall.SIGQUIT)
	select {
	case <-g.proc.Ended:
	case <-time.After(10 * time.Second):
	}
}

// sample follows the resident memory until ctx ends.
func (g *gateway) sample(ctx context.Context, p *child.Process) {
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if now, err := p.RSS(); err == nil && now > g.peak.Load() { // an error is its end
			g.peak.Store(now)
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// get fetches a page of the dashboard's listener.
func (g *gateway) get(path string, most time.Duration) (string, error) {
	c := http.Client{Timeout: most, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + g.web + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, r.Status, bytes.TrimSpace(b))
	}
	return string(b), err
}

// counters are the metrics by name with labels.
type counters map[string]float64

func (g *gateway) metrics(most time.Duration) (counters, error) {
	text, err := g.get("/metrics", most)
	if err != nil {
		return nil, err
	}
	m := counters{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64); err == nil {
				m[line[:i]] = v
			}
		}
	}
	return m, nil
}

// status is what `holdfast status --json` prints.
func (g *gateway) status() (text string, parsed statusReport, err error) {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	b, err := exec.CommandContext(ctx, g.program, "status", "--json", "-c", g.config).Output()
	if len(b) > 0 { // the exit code is that of the state
		err = json.Unmarshal(b, &parsed)
	}
	return string(b), parsed, err
}

// statusReport is what of the status is looked at.
type statusReport struct {
	Problems []string `json:"problems"`
	Bridges  []struct {
		Name      string `json:"name"`
		Connected bool   `json:"connected"`
	} `json:"bridges"`
	Journal struct {
		Losses []struct {
			Reader string `json:"reader"`
			Reason string `json:"reason"`
			Count  uint64 `json:"count"`
		} `json:"losses"`
	} `json:"journal"`
}

// size is how many bytes the files below the journal's directory hold.
func (g *gateway) size() (n int64) {
	filepath.WalkDir(g.data(), func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	})
	return n
}

// logged returns how much the log has grown by since at, and its longest line.
func (g *gateway) logged(at int64) (size int64, longest int, lines int) {
	f, err := os.Open(g.logFile())
	if err != nil {
		return at, 0, 0
	}
	defer f.Close()
	f.Seek(at, io.SeekStart)
	b, _ := io.ReadAll(f)
	for line := range bytes.Lines(b) {
		longest = max(longest, len(line))
		lines++
	}
	return at + int64(len(b)), longest, lines
}
