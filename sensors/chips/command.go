package chips

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// execCommand runs a command and reads its output.
func execCommand() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "exec", Doc: "what a command prints: a number, or values in JSON",
			Chip: "everything else", Datasheet: "none: the command's own",
			Options: append([]sensors.Option{
				{Name: "command", Kind: sensors.OptionStrings, Required: true, Doc: "program and arguments, each by itself: no shell looks at them. The whole group of processes is ended at the deadline"},
			}, textOptions()...),
			Timeout: 10 * time.Second,
		},
		QuantitiesOf: textQuantities,
		Check: func(c sensors.Config) error {
			if len(stringsOption(c, "command")) == 0 {
				return errors.New("command: is empty, want a program and its arguments")
			}
			return checkText(c)
		},
		Open: func(_ context.Context, c sensors.Config, _ *bus.Set) (sensors.Sensor, error) {
			path, err := exec.LookPath(stringsOption(c, "command")[0])
			if err != nil {
				return nil, fmt.Errorf("%w: %w", bus.ErrAbsent, err)
			}
			return &execSensor{c, path}, nil
		},
	}
}

type execSensor struct {
	config sensors.Config
	path   string
}

// outputDelay is how long after a command has ended its output may be open: what it has left behind may hold it, or
// the machine may be too busy to read it. Who is killed holds it no longer, unless it has left its process group.
const outputDelay = time.Second

func (s *execSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, s.path, stringsOption(s.config, "command")[1:]...)
	// Nothing of our own environment, which may hold passwords.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputDelay
	out := &bounded{limit: maxText, full: func() { cancel(fmt.Errorf("the command says more than %d KiB", maxText>>10)) }}
	complaint := &bounded{limit: 512, full: func() {}}
	cmd.Stdout, cmd.Stderr = out, complaint
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = cmd.Cancel() // what it has left behind holds its output, and would pile up
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", s.path, err, complaint.said())
	}
	m, err := readText(s.config.Options, out.text.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", s.path, err, complaint.said())
	}
	return m, nil
}

func (s *execSensor) Close() error { return nil }

// bounded keeps the beginning of what is written to it. The buffer is no part of it: its ReadFrom would
// take everything.
type bounded struct {
	text  bytes.Buffer
	limit int
	full  func()
}

func (b *bounded) Write(p []byte) (int, error) {
	room := min(len(p), b.limit-b.text.Len())
	b.text.Write(p[:room])
	if room < len(p) {
		b.full()
	}
	return len(p), nil
}

func (b *bounded) said() string {
	line, _, _ := strings.Cut(strings.TrimSpace(b.text.String()), "\n")
	if line == "" {
		return ""
	}
	return ": " + line
}
