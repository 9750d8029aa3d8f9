package main

import (
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
	"syscall"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"

	"holdfast/broker/faultnet"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/scripts/child"
)

var kinds = []string{"holdfast", "mosquitto", "nats-server"}

// process is a broker that runs.
type process struct {
	*child.Process
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
	cmd, err := p.command(kind, profile)
	if err == nil {
		p.Process, err = child.Start(cmd)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if _, err := p.Ready(10*time.Second, 20*time.Millisecond, func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	}); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s does not listen: %w", kind, err)
	}
	return p, nil
}

func (p *process) command(kind, profile string) (*exec.Cmd, error) {
	if kind == "mosquitto" {
		return p.mosquitto()
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "serve", kind, p.addr, p.dir)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "BENCH_PROFILE="+profile)
	return cmd, nil
}

func (p *process) mosquitto() (*exec.Cmd, error) {
	path, err := child.Find("mosquitto")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(p.addr)
	conf := filepath.Join(p.dir, "conf")
	lines := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n" +
		"max_queued_messages 0\nmax_inflight_messages 100\n"
	if u, err := user.Current(); err == nil {
		lines += "user " + u.Username + "\n"
	}
	return exec.Command(path, "-c", conf), os.WriteFile(conf, []byte(lines), 0o600)
}

func (p *process) stop() {
	_ = p.Stop(10 * time.Second) // how it ended is no figure of this
	os.RemoveAll(p.dir)
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
