package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"

	"holdfast/broker/faultnet"
	"holdfast/broker/journal"
	"holdfast/broker/server"
)

var kinds = []string{"holdfast", "mosquitto", "nats-server"}

// process is a broker that runs.
type process struct {
	cmd  *exec.Cmd
	addr string
	dir  string
}

// start starts a broker on a free port, without anything of an earlier run.
func start(kind, profile string) (*process, error) {
	addr, err := faultnet.FreeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-broker")
	if err != nil {
		return nil, err
	}
	p := &process{addr: addr, dir: dir}
	if kind == "mosquitto" {
		err = p.mosquitto()
	} else {
		var self string
		if self, err = os.Executable(); err == nil {
			p.cmd = exec.Command(self, "serve", kind, addr, dir)
			p.cmd.Stderr = os.Stderr
			p.cmd.Env = append(os.Environ(), "BENCH_PROFILE="+profile)
		}
	}
	if err == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = p.cmd.Start()
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return p, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("%s does not listen", kind)
}

func (p *process) mosquitto() error {
	path, err := lookMosquitto()
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(p.addr)
	conf := filepath.Join(p.dir, "conf")
	lines := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n" +
		"max_queued_messages 0\nmax_inflight_messages 100\n"
	if u, err := user.Current(); err == nil {
		lines += "user " + u.Username + "\n"
	}
	p.cmd = exec.Command(path, "-c", conf)
	return os.WriteFile(conf, []byte(lines), 0o600)
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			p.cmd.Process.Kill()
		}
	}()
	p.cmd.Wait()
	close(done)
	os.RemoveAll(p.dir)
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
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, nil // a tick is 1/100 s on every Linux
}

// rss is the process's resident memory in bytes.
func (p *process) rss() (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// serve is the broker's process.
func serve(kind, addr, dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if kind == "nats-server" {
		return serveNATS(ctx, addr, dir)
	}
	if file := os.Getenv("BENCH_PROFILE"); file != "" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fs, err := journal.NewDirFS(dir)
	if err != nil {
		return err
	}
	j, err := journal.Open(journal.Options{FS: fs})
	if err != nil {
		return err
	}
	s, err := server.New(server.Options{
		Journal: j, Anonymous: true, MaxConnections: 20_000, MaxSessions: 20_000,
		Listeners: []server.Listener{{Network: "tcp", Address: addr}},
	})
	if err != nil {
		return err
	}
	return errors.Join(s.Run(ctx), j.Close())
}

func serveNATS(ctx context.Context, addr, dir string) error {
	host, port, _ := net.SplitHostPort(addr)
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	s, err := nats.NewServer(&nats.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoSigs: true,
		MQTT: nats.MQTTOpts{Host: host, Port: n, MaxAckPending: 100},
	})
	if err != nil {
		return err
	}
	s.Start()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}
