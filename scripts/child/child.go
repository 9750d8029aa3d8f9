// Package child runs the programs that are measured or put to the test: each ends when this program ends, is
// stopped without leaving a zombie, and has its cost read from /proc. [Process.Within] gives a deadline in the time
// that a process had, which a busy machine does not shorten.
//
// It does not restart programs and does not end what they start themselves.
package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// ErrEnded is the cause when a process has ended without being asked to.
var ErrEnded = errors.New("the process has ended")

// Process is a program that runs. Its methods may be called from several goroutines.
type Process struct {
	PID   int
	Ended <-chan struct{} // closed when the process has ended
	err   error           // of Wait; may be read once Ended is closed
	cmd   *exec.Cmd
}

// Start starts cmd, which must not have been started. The kernel kills it when this program ends, however that
// happens.
func Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	p := &Process{PID: cmd.Process.Pid, Ended: ended, cmd: cmd}
	go func() {
		defer close(ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// Alive reports whether the process has not ended.
func (p *Process) Alive() bool {
	select {
	case <-p.Ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal. A process that has ended ignores it.
func (p *Process) Signal(s os.Signal) {
	_ = p.cmd.Process.Signal(s)
}

// Kill ends the process with SIGKILL and returns when it has ended.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.Ended
}

// Stop asks the process to end, with SIGTERM, kills it if it has not ended after grace, and returns how it ended.
func (p *Process) Stop(grace time.Duration) error {
	p.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(grace, func() { p.Signal(syscall.SIGKILL) })
	defer kill.Stop()
	return p.Wait()
}

// Wait returns when the process has ended, and how.
func (p *Process) Wait() error {
	<-p.Ended
	return p.err
}

// Ready calls try until it succeeds, waiting pause between two calls, and returns how long that took. It gives up when the
// process ends, with [ErrEnded], or after most, with the last error of try.
func (p *Process) Ready(most, pause time.Duration, try func() error) (time.Duration, error) {
	began := time.Now()
	for {
		err := try()
		took := time.Since(began)
		switch {
		case err == nil:
			return took, nil
		case !p.Alive():
			return took, ErrEnded
		case took >= most:
			return took, fmt.Errorf("not ready after %v: %w", most, err)
		}
		select {
		case <-time.After(pause):
		case <-p.Ended:
		}
	}
}

// Find returns the path of a program. It also looks where Debian puts daemons and tools of root, which is not in
// every user's PATH.
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err == nil {
			return path, nil
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	if err != nil {
		return "", fmt.Errorf("%s is not installed: run `scripts/setup-test`", name)
	}
	return path, nil
}

// Tail is a writer that keeps the end of what is written to it, at most 16 KiB. It may be used from several
// goroutines.
type Tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailSize = 16 << 10

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	p = p[max(0, n-tailSize/2):]
	if t.b.Len()+len(p) > tailSize {
		t.b.Next(t.b.Len() - tailSize/2)
	}
	t.b.Write(p)
	return n, nil
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
