package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/broker/faultnet"
	"holdfast/scripts/guest"
)

const (
	bootBudget    = 15 * time.Minute // far more than it takes, also on a busy machine
	commandBudget = 10 * time.Minute
)

// guestInit is process 1 until the disk is there; then systemd is.
func guestInit() string {
	return `#!/bin/sh
export PATH=/bin
die() { echo "guest: $*"; /bin/busybox poweroff -f; sleep 60; }
/bin/busybox --install -s /bin || die "no busybox"
mount -t devtmpfs dev /dev && mount -t proc proc /proc && mount -t sysfs sys /sys || die "no /dev, /proc or /sys"
for m in ` + strings.Join(guest.Modules, " ") + `; do insmod "/lib/$m.ko" || die "cannot load $m"; done
date -s "@$(sed 's/.*now=\([0-9]*\).*/\1/' /proc/cmdline)" >/dev/null
ip link set lo up && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2 || die "no network"
mount -t ext4 -o data=ordered /dev/vda /new || die "cannot mount"
mount -t ext4 -o ro /dev/vdb /new/home/pi || die "no packages"
mount --move /dev /new/dev && mount --move /proc /new/proc && mount --move /sys /new/sys || die "cannot move"
exec switch_root /new /sbin/init
die "no systemd"
`
}

// console is the shell at the guest's serial port.
type console struct {
	machine *guest.Machine
	broker  string // where the guest's port 1883 is on this machine

	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

// Write takes what the guest prints.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.b.Write(bytes.ReplaceAll(p, []byte("\r"), nil))
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// until waits for the mark and returns what came before it.
func (c *console) until(ctx context.Context, budget time.Duration, mark string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for {
		c.mu.Lock()
		before, after, found := strings.Cut(c.b.String(), mark)
		if found {
			c.b.Reset()
			c.b.WriteString(after)
		}
		c.mu.Unlock()
		if found {
			return before, nil
		}
		select {
		case <-c.more:
		case <-c.machine.Ended:
			return "", fmt.Errorf("the guest has switched itself off:\n%s", c.machine.Tail)
		case <-ctx.Done():
			return "", fmt.Errorf("no %q within %s: %w\n%s", mark, budget, context.Cause(ctx), c.machine.Tail)
		}
	}
}

// switchOn boots the guest and waits for its shell.
func (t *test) switchOn(ctx context.Context) (*console, error) {
	address, err := faultnet.FreeAddress()
	if err != nil {
		return nil, err
	}
	c := &console{broker: address, more: make(chan struct{}, 1)}
	c.machine, err = guest.Start(guest.Options{
		Kernel: t.assets + "/vmlinuz", Initrd: t.path("initrd"), Disks: []string{t.path("disk"), t.path("usb")},
		Append:  fmt.Sprintf("rdinit=/init loglevel=1 net.ifnames=0 systemd.show_status=0 now=%d", time.Now().Unix()),
		Network: fmt.Sprintf(",hostfwd=tcp:%s-10.0.2.15:1883", c.broker),
		Console: t.path("console"), Input: true, Stdout: c,
	})
	if err != nil {
		return nil, err
	}
	if _, err := c.until(ctx, bootBudget, "<<<up>>>\n"); err != nil {
		c.machine.Cut()
		return nil, err
	}
	return c, nil
}

// sh runs a command in the guest and returns what it printed. Exit codes other than 0 are errors.
func (c *console) sh(ctx context.Context, command string) (string, error) {
	mark := rand.Text()
	// The mark is put together by the shell, so that an echo of the command is none. What the command
	// prints goes through a file, so that programs do not draw for a terminal.
	if _, err := fmt.Fprintf(c.machine.Input, "( %s\n) </dev/null >/run/out 2>&1; r=$?; cat /run/out; echo \"<<$r:\"%s\">>\"\n", command, mark); err != nil {
		return "", err
	}
	out, err := c.until(ctx, commandBudget, ":"+mark+">>\n")
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	i := strings.LastIndex(out, "<<")
	if i < 0 {
		return "", fmt.Errorf("%s: got %q without an exit code", command, out)
	}
	code, err := strconv.Atoi(out[i+2:])
	out = strings.TrimSpace(out[:i])
	if err == nil && code != 0 {
		err = fmt.Errorf("%s: exit code %d: %s", command, code, out)
	}
	return out, err
}

// fails runs a command that has to fail.
func (c *console) fails(ctx context.Context, command string) error {
	out, err := c.sh(ctx, command)
	if err == nil {
		return fmt.Errorf("%s: got %q and exit code 0, want a failure", command, out)
	}
	return ctx.Err()
}

// all runs commands in turn, each of which has to succeed.
func (c *console) all(ctx context.Context, commands ...string) error {
	var errs []error
	for _, command := range commands {
		if _, err := c.sh(ctx, command); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// write puts a file into the guest, line by line: a terminal takes no more than 4095 bytes at a time.
func (c *console) write(ctx context.Context, name, content string) error {
	return c.all(ctx, "cat >"+name+" <<'EOF'\n"+content+"EOF")
}

// eventually repeats a command until it succeeds, for what the guest does in its own time.
func (c *console) eventually(ctx context.Context, command string) (string, error) {
	return c.sh(ctx, "for i in $(seq 120); do out=$( { "+command+"; } 2>&1 ) && break; sleep 1; done; echo \"$out\"; "+command+" >/dev/null 2>&1")
}
