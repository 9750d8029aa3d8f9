package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// modules that the guest needs, in the order of loading. The kernel's package has no list of what
// depends on what: that is made at installation.
var modules = []string{
	"virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
	"failover", "net_failover", "virtio_net",
	"crc32c_generic", "libcrc32c", "crc16", "mbcache", "jbd2", "ext4",
}

const (
	imageSize  = 512 << 20
	guestPort  = 1883
	bootBudget = 5 * time.Minute // far more than it takes
)

// guestConfig has a bridge to where nobody listens, so that the journal keeps everything.
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
for m in ` + strings.Join(modules, " ") + `; do insmod "/lib/$m.ko" || die "cannot load $m"; done
mount -t ext4 -o data=ordered /dev/vda /data || die "cannot mount"
ip link set lo up && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || die "no network"
/holdfast run -c /holdfast.yaml
die "holdfast run has ended with $?"
`
}

// guest is what is needed to start one.
type guest struct {
	kernel, initrd, image, console string
}

// newGuest builds the program and the two files that the guest boots from, and an empty disk.
func newGuest(ctx context.Context, assets, work string) (*guest, error) {
	program := filepath.Join(work, "holdfast")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	g := &guest{
		kernel: filepath.Join(assets, "vmlinuz"), initrd: filepath.Join(work, "initrd"),
		image: filepath.Join(work, "disk"), console: filepath.Join(work, "console"),
	}
	files := []file{
		{"init", 0o755, []byte(guestInit())}, {"holdfast.yaml", 0o644, []byte(guestConfig)},
		{"bin", dir, nil}, {"lib", dir, nil}, {"dev", dir, nil}, {"proc", dir, nil}, {"sys", dir, nil},
		{"data", dir, nil}, {"tmp", dir, nil}, {"bin/sh", link, []byte("busybox")},
	}
	from := map[string]string{"holdfast": program, "bin/busybox": filepath.Join(assets, "busybox")}
	for _, m := range modules {
		from["lib/"+m+".ko"] = filepath.Join(assets, m+".ko")
	}
	for name, path := range from {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, 0o755, b})
	}
	if err := os.WriteFile(g.initrd, archive(files), 0o644); err != nil {
		return nil, err
	}
	return g, g.format(ctx)
}

// format makes an empty ext4 with a journal, as Debian's mkfs does it by itself.
func (g *guest) format(ctx context.Context) error {
	f, err := os.Create(g.image)
	if err != nil {
		return err
	}
	err = f.Truncate(imageSize)
	if f.Close(); err != nil {
		return err
	}
	return run(ctx, "mkfs.ext4", "-q", "-F", "-O", "has_journal", g.image)
}

// run runs a command of the system and returns what it said if it fails.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	if path, err := exec.LookPath(name); err != nil {
		for _, d := range []string{"/usr/sbin", "/sbin"} {
			if _, err := os.Stat(filepath.Join(d, name)); err == nil {
				path = filepath.Join(d, name)
			}
		}
		cmd.Path, cmd.Err = path, nil
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// machine is a running guest.
type machine struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	addr  string        // where its broker is reached
	tail  *tail
}

// start switches the guest on. cache=writeback: what the guest has flushed is in the host's page
// cache, which outlives QEMU; what is in the guest's own cache dies with it.
func (g *guest) start() (*machine, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	console, err := os.OpenFile(g.console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	m := &machine{ended: make(chan struct{}), addr: addr, tail: &tail{}}
	m.cmd = exec.Command("nice", "-n", "5", "qemu-system-aarch64",
		"-M", "virt", "-cpu", "cortex-a72", "-m", "512", "-nodefaults", "-nographic", "-no-reboot",
		"-serial", "stdio", "-kernel", g.kernel, "-initrd", g.initrd,
		"-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init",
		"-drive", "if=none,id=disk,format=raw,cache=writeback,file="+g.image,
		"-device", "virtio-blk-pci,drive=disk",
		"-netdev", fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:%s-10.0.2.15:%d", addr, guestPort),
		"-device", "virtio-net-pci,netdev=net,romfile=")
	m.cmd.Stdout = io.MultiWriter(console, m.tail)
	m.cmd.Stderr = m.cmd.Stdout
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		console.Close()
		return nil, err
	}
	go func() {
		m.cmd.Wait()
		console.Close()
		close(m.ended)
	}()
	return m, nil
}

// cut is the power cut: SIGKILL, in the middle of whatever QEMU does.
func (m *machine) cut() {
	m.cmd.Process.Kill() // nice has become QEMU
	<-m.ended
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() > 16<<10 {
		t.b.Next(t.b.Len() - 8<<10)
	}
	return t.b.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// file is one entry of an archive: mode is that of a regular file, or one of dir and link.
type file struct {
	name    string
	mode    uint32
	content []byte
}

const (
	dir  = 0o040755
	link = 0o120777
)

// archive writes files in the format that the kernel unpacks (cpio, "newc").
func archive(files []file) []byte {
	var b bytes.Buffer
	for i, f := range append(files, file{name: "TRAILER!!!"}) {
		mode := f.mode
		if mode < 0o10000 {
			mode |= 0o100000
		}
		b.WriteString("070701")
		for _, v := range []int{i + 1, int(mode), 0, 0, 1, 0, len(f.content), 0, 0, 0, 0, len(f.name) + 1, 0} {
			fmt.Fprintf(&b, "%08X", v)
		}
		b.WriteString(f.name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(f.content)
		b.Write(make([]byte, -b.Len()&3))
	}
	return b.Bytes()
}
