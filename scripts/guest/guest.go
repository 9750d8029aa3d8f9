// Package guest runs a machine in QEMU for tests that cut its power: Debian's arm64 kernel, emulated in
// software.
//
// SIGKILL to QEMU is a power cut for whatever is in the guest's own page cache. What the guest has
// flushed is in the host's page cache and survives; the cache of the disk itself is not simulated.
package guest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"holdfast/scripts/child"
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
	Tail  *child.Tail    // the end of what it has printed

	*child.Process
}

// Start switches the guest on. It ends with this process at the latest.
func Start(o Options) (*Machine, error) {
	console, err := os.OpenFile(o.Console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	m := &Machine{Tail: &child.Tail{}}
	args := []string{"-n", "5", "qemu-system-aarch64",
		"-M", "virt", "-cpu", "cortex-a72", "-m", "512", "-nodefaults", "-nographic", "-no-reboot",
		"-serial", "stdio", "-kernel", o.Kernel, "-initrd", o.Initrd,
		"-append", "console=ttyAMA0 quiet panic=-1 " + o.Append,
		"-netdev", "user,id=net" + o.Network, "-device", "virtio-net-pci,netdev=net,romfile="}
	for i, disk := range o.Disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,cache=writeback,file=%s", i, disk),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d", i))
	}
	cmd := exec.Command("nice", args...) // which becomes QEMU
	writers := []io.Writer{console, m.Tail}
	if o.Stdout != nil {
		writers = append(writers, o.Stdout)
	}
	cmd.Stdout = io.MultiWriter(writers...)
	cmd.Stderr = cmd.Stdout
	if o.Input {
		if m.Input, err = cmd.StdinPipe(); err != nil {
			console.Close()
			return nil, err
		}
	}
	if m.Process, err = child.Start(cmd); err != nil {
		console.Close()
		return nil, err
	}
	go func() {
		<-m.Ended
		console.Close()
	}()
	return m, nil
}

// Cut is the power cut: SIGKILL, in the middle of whatever QEMU does.
func (m *Machine) Cut() { m.Kill() }

// Run runs a command of the system. The error has its output.
func Run(ctx context.Context, name string, args ...string) error {
	path, err := child.Find(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
