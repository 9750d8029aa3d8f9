// Package guest runs a machine in QEMU for tests that cut its power: Debian's arm64 kernel, emulated in
// software.
//
// SIGKILL to QEMU is a power cut for whatever is in the guest's own page cache. What the guest has
// flushed is in the host's page cache and survives; the cache of the disk itself is not simulated.
package guest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// Modules that a guest needs for its disk, file system and network, in the order of loading. The kernel's
// package has no list of what depends on what: that is made at installation.
var Modules = []string{
	"virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
	"failover", "net_failover", "virtio_net",
	"crc32c_generic", "libcrc32c", "crc16", "mbcache", "jbd2", "ext4",
}

// Options of a machine.
type Options struct {
	Kernel, Initrd string
	Append         string   // kernel's command line, after what the console needs
	Disks          []string // raw images: vda, vdb, ...
	Network        string   // further options of QEMU's user networking, such as hostfwd=
	Console        string   // file that gets what the guest prints, beside Tail
	Input          bool     // whether Input is connected to the serial console
	Stdout         io.Writer
}

// Machine is a running guest.
type Machine struct {
	Input io.WriteCloser // what is typed at its console
	Ended chan struct{}  // closed when it has
	Tail  *Tail          // the end of what it has printed
	cmd   *exec.Cmd
}

// Start switches the guest on. It ends with this process at the latest.
func Start(o Options) (*Machine, error) {
	console, err := os.OpenFile(o.Console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	m := &Machine{Ended: make(chan struct{}), Tail: &Tail{}}
	args := []string{"-n", "5", "qemu-system-aarch64",
		"-M", "virt", "-cpu", "cortex-a72", "-m", "512", "-nodefaults", "-nographic", "-no-reboot",
		"-serial", "stdio", "-kernel", o.Kernel, "-initrd", o.Initrd,
		"-append", "console=ttyAMA0 quiet panic=-1 " + o.Append,
		"-netdev", "user,id=net" + o.Network, "-device", "virtio-net-pci,netdev=net,romfile="}
	for i, disk := range o.Disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,cache=writeback,file=%s", i, disk),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d", i))
	}
	m.cmd = exec.Command("nice", args...) // which becomes QEMU
	writers := []io.Writer{console, m.Tail}
	if o.Stdout != nil {
		writers = append(writers, o.Stdout)
	}
	m.cmd.Stdout = io.MultiWriter(writers...)
	m.cmd.Stderr = m.cmd.Stdout
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if o.Input {
		if m.Input, err = m.cmd.StdinPipe(); err != nil {
			console.Close()
			return nil, err
		}
	}
	if err := m.cmd.Start(); err != nil {
		console.Close()
		return nil, err
	}
	go func() {
		m.cmd.Wait()
		console.Close()
		close(m.Ended)
	}()
	return m, nil
}

// Cut is the power cut: SIGKILL, in the middle of whatever QEMU does.
func (m *Machine) Cut() {
	m.cmd.Process.Kill()
	<-m.Ended
}

// Run runs a command of the system and returns what it said if it fails.
func Run(ctx context.Context, name string, args ...string) error {
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

// Tail keeps the end of what is written to it.
type Tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() > 16<<10 {
		t.b.Next(t.b.Len() - 8<<10)
	}
	return t.b.Write(p)
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
