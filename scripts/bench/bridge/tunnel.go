package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/scripts/child"
)

// tunnel is a network of two hosts: the namespace that this process runs in, and another one in which it listens.
// Between them are two TUN interfaces, and what carries IP packets from one to the other, late and not all of
// them. TCP is the kernel's at both ends. No packet leaves the two namespaces.
type tunnel struct {
	far   int // a file of the other namespace
	ends  [2]*os.File
	work  sync.WaitGroup
	loss  float64
	delay time.Duration

	packets, lost atomic.Int64
}

// The two hosts, of a network that RFC 5737 keeps free for examples.
var hosts = [2]string{"192.0.2.1", "192.0.2.2"}

const queued = 1000 // packets on their way in one direction; others are lost, too

// isolate runs this program again with some arguments, in a network namespace of its own, and returns how that
// ended. Who is not root gets a user namespace as well, where the kernel allows that.
func isolate(args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	p, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("no network namespace: %w: be root, or let users have namespaces of their own", err)
	}
	return p.Wait()
}

// newTunnel is called in a namespace of this process's own, which it gives one end.
func newTunnel(loss float64, delay time.Duration) (*tunnel, error) {
	t := &tunnel{loss: loss, delay: delay}
	var err error
	if t.ends[0], err = newEnd(hosts[0]); err != nil {
		return nil, err
	}
	runtime.LockOSThread() // of the namespace
	defer runtime.UnlockOSThread()
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(here)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("no network namespace: %w", err)
	}
	t.far, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		t.ends[1], err = newEnd(hosts[1])
	}
	if err := errors.Join(err, unix.Setns(here, unix.CLONE_NEWNET)); err != nil {
		return nil, err
	}
	t.work.Go(func() { t.carry(t.ends[0], t.ends[1]) })
	t.work.Go(func() { t.carry(t.ends[1], t.ends[0]) })
	return t, nil
}

// newEnd makes a TUN interface with an address in the namespace of this thread.
func newEnd(address string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w: want a kernel with TUN", err)
	}
	r, err := unix.NewIfreq("lossy")
	if err != nil {
		return nil, err
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return nil, fmt.Errorf("TUN interface: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(s)
	set := func(name string, request uint, change func(*unix.Ifreq) error) {
		r, bad := unix.NewIfreq(name)
		if bad == nil {
			bad = change(r)
		}
		if bad == nil {
			bad = unix.IoctlIfreq(s, request, r)
		}
		if bad != nil && err == nil {
			err = fmt.Errorf("interface %s: %w", name, bad)
		}
	}
	up := func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP); return nil }
	set("lo", unix.SIOCSIFFLAGS, up)
	set("lossy", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(address).To4()) })
	set("lossy", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) })
	set("lossy", unix.SIOCSIFFLAGS, up)
	return os.NewFile(uintptr(fd), "tun"), err
}

// listen listens on the other host.
func (t *tunnel) listen() (l net.Listener, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(here)
	if err := unix.Setns(t.far, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	l, err = net.Listen("tcp4", hosts[1]+":0")
	return l, errors.Join(err, unix.Setns(here, unix.CLONE_NEWNET))
}

// carry takes packets from one end to the other.
func (t *tunnel) carry(from, to *os.File) {
	type packet struct {
		due time.Time
		b   []byte
	}
	way := make(chan packet, queued)
	t.work.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			_, _ = to.Write(p.b) // as any network
		}
	})
	defer close(way)
	rng := rand.New(rand.NewPCG(1, uint64(from.Fd())))
	buf := make([]byte, 65536)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		t.packets.Add(1)
		if rng.Float64() >= t.loss {
			select {
			case way <- packet{time.Now().Add(t.delay), append([]byte(nil), buf[:n]...)}:
				continue
			default:
			}
		}
		t.lost.Add(1)
	}
}

func (t *tunnel) close() {
	for _, f := range t.ends {
		f.Close()
	}
	t.work.Wait()
	unix.Close(t.far)
}
