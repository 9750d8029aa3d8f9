package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/broker/diagnose"
	"holdfast/broker/journal"
	"holdfast/broker/listen"
	"holdfast/gateway/config"
	"holdfast/gateway/control"
	"holdfast/gateway/status"
	"holdfast/gateway/uplinks"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/scan"
)

// Here returns the machine that this process runs on.
func Here() Machine {
	return Machine{
		Root: os.DirFS("/"), Now: time.Now, UserID: os.Geteuid(),
		Groups: groups,
		Access: func(path string) error {
			return unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK|unix.W_OK, unix.AT_EACCESS)
		},
		Group: groupOf, Synced: synced, Disk: journal.Space, Sync: commits,
		Listen: func(network, address string) error {
			l, err := net.Listen(listen.Network(network, address), address)
			if err == nil {
				err = l.Close()
			}
			return err
		},
		Try: func(ctx context.Context, cfg *config.Config, bridge string, address func(string), report func(diagnose.Step)) error {
			_, err := uplinks.Try(ctx, cfg, bridge, uplinks.TryOptions{Timeout: checkTimeout / 3, Aside: true}, address, report)
			return err
		},
		Status: func(ctx context.Context, cfg *config.Config) (*status.Status, error) {
			s := new(status.Status)
			return s, control.Find(cfg.Control, cfg.DataDir).Get(ctx, "/status", s)
		},
		Run: run,
		Scan: func(ctx context.Context) (*scan.Result, error) {
			buses := bus.NewSet(nil)
			defer buses.Close()
			return scan.Run(ctx, buses, chips.Drivers())
		},
	}
}

func groups() ([]string, error) {
	ids, err := os.Getgroups()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, id := range append(ids, os.Getegid()) {
		name := strconv.Itoa(id)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func groupOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	if g, err := user.LookupGroupId(strconv.Itoa(int(st.Gid))); err == nil {
		return g.Name
	}
	return strconv.Itoa(int(st.Gid))
}

// synced reports whether the kernel's clock is synchronised, which the time daemon sets.
func synced() (bool, error) {
	clock, err := status.ReadClock()
	return clock.Synchronised, err
}

// commits writes 20 small blocks, each made durable as the journal does, and stops after two seconds.
func commits(dir string) (median, worst time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const most, block = 20, 512
	if _, err := f.Write(make([]byte, most*block)); err != nil { // as in the journal, blocks are overwritten
		return 0, 0, err
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return 0, 0, err
	}
	var took []time.Duration
	data := make([]byte, block)
	for begun := time.Now(); len(took) < most && (len(took) == 0 || time.Since(begun) < 2*time.Second); {
		data[0]++
		t := time.Now()
		_, err := f.WriteAt(data, int64(len(took)*block))
		if err == nil {
			err = unix.Fdatasync(int(f.Fd()))
		}
		if err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(t))
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1], nil
}

// run returns a program's output, of at most a few MiB and seconds.
func run(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0")
	c.WaitDelay = time.Second
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
