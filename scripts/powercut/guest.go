package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"holdfast/broker/faultnet"
	"holdfast/scripts/guest"
)

const (
	imageSize  = 512 << 20
	guestPort  = 1883
	bootBudget = 5 * time.Minute // of the guest's time: far more than it takes
)

// guestConfig has a bridge to a closed port, so that the journal keeps everything.
const guestConfig = `device: {id: guest}
data_dir: /data
broker:
  listeners: [{url: "mqtt://0.0.0.0:1883"}]
  anonymous: true
journal: {max_size: 384MiB, keep_free: 0B}
bridges:
  - name: up
    upstream: ["mqtt://127.0.0.1:9"]
    out: [{filter: "#"}]
`

// guestInit is process 1. Where anything fails the guest powers off, which the host sees.
func guestInit() string {
	return `#!/bin/sh
export PATH=/bin
die() { echo "guest: $*"; /bin/busybox poweroff -f; sleep 60; }
/bin/busybox --install -s /bin || die "no busybox"
mount -t devtmpfs dev /dev && mount -t proc proc /proc && mount -t sysfs sys /sys || die "no /dev, /proc or /sys"
for m in ` + strings.Join(guest.Modules, " ") + `; do insmod "/lib/$m.ko" || die "cannot load $m"; done
mount -t ext4 -o data=ordered /dev/vda /data || die "cannot mount"
ip link set lo up && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || die "no network"
/holdfast run -c /holdfast.yaml
die "holdfast run has ended with $?"
`
}

// machine is what is needed to start the guest.
type machine struct {
	kernel, initrd, image, console string
}

// newMachine builds the program and the two files that the guest boots from, and an empty disk.
func newMachine(ctx context.Context, assets, work string) (*machine, error) {
	program := filepath.Join(work, "holdfast")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	g := &machine{
		kernel: filepath.Join(assets, "vmlinuz"), initrd: filepath.Join(work, "initrd"),
		image: filepath.Join(work, "disk"), console: filepath.Join(work, "console"),
	}
	files, err := guest.Base(assets)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	files = append(files, guest.File{Name: "init", Mode: 0o755, Content: []byte(guestInit())},
		guest.File{Name: "holdfast.yaml", Mode: 0o644, Content: []byte(guestConfig)},
		guest.File{Name: "holdfast", Mode: 0o755, Content: b})
	if err := os.WriteFile(g.initrd, guest.Archive(files), 0o644); err != nil {
		return nil, err
	}
	return g, g.format(ctx)
}

// format makes an empty ext4 with a journal, as Debian's mkfs does it by itself.
func (g *machine) format(ctx context.Context) error {
	f, err := os.Create(g.image)
	if err != nil {
		return err
	}
	err = f.Truncate(imageSize)
	if f.Close(); err != nil {
		return err
	}
	return guest.Run(ctx, "mkfs.ext4", "-q", "-F", "-O", "has_journal", g.image)
}

// running is the guest while it is switched on.
type running struct {
	*guest.Machine
	addr string // where its broker is reached
}

// start switches the guest on.
func (g *machine) start() (*running, error) {
	addr, err := faultnet.FreeAddress()
	if err != nil {
		return nil, err
	}
	m, err := guest.Start(guest.Options{
		Kernel: g.kernel, Initrd: g.initrd, Append: "rdinit=/init", Disks: []string{g.image}, Console: g.console,
		Network: fmt.Sprintf(",restrict=on,hostfwd=tcp:%s-10.0.2.15:%d", addr, guestPort),
	})
	return &running{m, addr}, err
}
