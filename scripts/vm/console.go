package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/broker/faultnet"
	"holdfast/scripts/guest"
)

const bootBudget = 15 * time.Minute // of the guest's time: far more than it takes

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

// console is the guest that is switched on, and the shell at its serial port.
type console struct {
	*shell
	machine *guest.Machine
	broker  string // where the guest's port 1883 is on this machine
}

// switchOn boots the guest and waits for its shell.
func (t *test) switchOn(ctx context.Context) (*console, error) {
	address, err := faultnet.FreeAddress()
	if err != nil {
		return nil, err
	}
	c := &console{broker: address, shell: newShell("/run")}
	c.machine, err = guest.Start(guest.Options{
		Kernel: t.assets + "/vmlinuz", Initrd: t.path("initrd"), Disks: []string{t.path("disk"), t.path("usb")},
		Append:  fmt.Sprintf("rdinit=/init loglevel=1 net.ifnames=0 systemd.show_status=0 now=%d", time.Now().Unix()),
		Network: fmt.Sprintf(",hostfwd=tcp:%s-10.0.2.15:1883", c.broker),
		Console: t.path("console"), Input: true, Stdout: c.shell,
	})
	if err != nil {
		return nil, err
	}
	c.in, c.within = c.machine.Input, c.machine.Within
	if err := c.started(ctx, bootBudget); err != nil {
		c.machine.Cut()
		return nil, fmt.Errorf("no shell: %w\n%s", err, c.machine.Tail)
	}
	return c, nil
}

// sh runs a command in the guest and returns what it printed. Exit codes other than 0 are errors.
func (c *console) sh(ctx context.Context, command string) (string, error) {
	out, err := c.run(ctx, command)
	if err != nil && !errors.As(err, new(failure)) {
		err = fmt.Errorf("%w\n%s", err, c.machine.Tail)
	}
	return out, err
}

// fails runs a command that has to fail.
func (c *console) fails(ctx context.Context, command string) error {
	out, err := c.sh(ctx, command)
	if err == nil {
		return fmt.Errorf("%s: got %q and exit code 0, want a failure", command, out)
	}
	if !errors.As(err, new(failure)) {
		return err
	}
	return nil
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

// write puts a file into the guest.
func (c *console) write(ctx context.Context, name, content string) error {
	return c.all(ctx, "cat >"+name+" <<'EOF'\n"+content+"EOF")
}

// eventually repeats a command until it succeeds, for what the guest does in its own time.
func (c *console) eventually(ctx context.Context, command string) (string, error) {
	budget, cancel := c.within(ctx, commandBudget)
	defer cancel()
	for {
		out, err := c.sh(ctx, command)
		if err == nil || !errors.As(err, new(failure)) {
			return out, err
		}
		select {
		case <-time.After(time.Second):
		case <-budget.Done():
			return "", fmt.Errorf("%w: %w", context.Cause(budget), err)
		}
	}
}
