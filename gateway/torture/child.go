package torture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// child is the gateway as a process of its own.
type child struct {
	program, address, log string
	cmd                   *exec.Cmd
	ended                 chan struct{} // closed when the process is gone
}

// startTime is how long a gateway may take until it listens, with a full journal on a slow card.
const startTime = 2 * time.Minute

var errEnded = errors.New("the gateway ended by itself")

// start returns when the gateway listens.
func (c *child) start(ctx context.Context, configs ...string) error {
	args := []string{"run"}
	for _, f := range configs {
		args = append(args, "-c", f)
	}
	log, err := os.OpenFile(c.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c.cmd = exec.Command(c.program, args...)
	c.cmd.Stderr = log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is for us alone
	if err := c.cmd.Start(); err != nil {
		c.cmd = nil
		return err
	}
	ended := make(chan struct{})
	c.ended = ended
	go func(cmd *exec.Cmd) {
		cmd.Wait()
		close(ended)
	}(c.cmd)
	try := time.NewTicker(10 * time.Millisecond)
	defer try.Stop()
	late := time.NewTimer(startTime)
	defer late.Stop()
	for {
		if n, err := net.Dial("tcp", c.address); err == nil {
			return n.Close()
		}
		select {
		case <-try.C:
		case <-c.ended:
			return c.died()
		case <-late.C:
			return fmt.Errorf("the gateway does not listen after %v", startTime)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// died returns how a gateway ended that was not killed, with the end of its log.
func (c *child) died() error {
	log, _ := os.ReadFile(c.log)
	const most = 2000
	if len(log) > most {
		log = log[len(log)-most:]
	}
	state := c.cmd.ProcessState
	c.cmd = nil
	return fmt.Errorf("%w: %v\n%s", errEnded, state, log)
}

// end sends a signal and waits for the end. An error means that it had ended before.
func (c *child) end(s os.Signal) error {
	if c.cmd == nil {
		return nil
	}
	select {
	case <-c.ended:
		return c.died()
	default:
	}
	c.cmd.Process.Signal(s)
	late := time.NewTimer(startTime)
	defer late.Stop()
	select {
	case <-c.ended:
	case <-late.C:
		c.cmd.Process.Kill()
		<-c.ended
		c.cmd = nil
		return fmt.Errorf("the gateway does not end after %v", startTime)
	}
	c.cmd = nil
	return nil
}

// kill is what a power cut is to the process.
func (c *child) kill() error { return c.end(syscall.SIGKILL) }

func (c *child) terminate() error { return c.end(syscall.SIGTERM) }
