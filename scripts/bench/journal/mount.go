package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A journaled ext4 on a loop device, over a file or over a simulated card, is set up and taken down
// by a process of its own: this binary again, told so by its first argument. A program that reads a
// mapped file from a FUSE file system that it serves itself can come to a stop for ever; and when
// the benchmark dies, however it dies, its end of the pipe closes and the helper cleans up.
const helperArg = "serve-storage"

// storage is what the helper has set up. It is taken down in the opposite order.
type storage struct {
	card *card
	undo []func() error
}

// serveStorage sets up storage in dir, says so on stdout, answers each line on stdin with the
// card's counters, and cleans up when stdin ends.
func serveStorage(kind, dir string, size int64) (err error) {
	s := &storage{}
	defer func() {
		if s.card != nil {
			s.card.slow.Store(false)
		}
		for i := len(s.undo) - 1; i >= 0; i-- {
			err = errors.Join(err, s.undo[i]())
		}
	}()
	loop, err := s.setUp(kind, dir, size)
	if err != nil {
		return err
	}
	if _, err := fmt.Println(loop); err != nil {
		return nil // no process listens
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var bytes, flushes uint64
		if s.card != nil {
			bytes, flushes = s.card.bytes.Load(), s.card.flushes.Load()
		}
		fmt.Println(bytes, flushes)
	}
	return nil
}

func (s *storage) setUp(kind, dir string, size int64) (loop string, err error) {
	image := filepath.Join(dir, "image")
	s.undo = append(s.undo, func() error { return os.Remove(dir) })
	s.undo = append(s.undo, func() error { return os.RemoveAll(filepath.Join(dir, "image")) })
	if kind == "card" {
		point := filepath.Join(dir, "fuse")
		if err := os.Mkdir(point, 0o700); err != nil {
			return "", err
		}
		s.undo = append(s.undo, func() error { return os.Remove(point) })
		c, server, err := mountCard(point, image, size)
		if err != nil {
			return "", fmt.Errorf("FUSE: %w: the kernel has to have /dev/fuse; with Debian: apt-get install fuse", err)
		}
		s.undo = append(s.undo, func() error { return patiently(server.Unmount) })
		s.card, image = c, filepath.Join(point, cardName)
	} else {
		f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return "", err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return "", err
		}
	}
	point := filepath.Join(dir, "mnt")
	if err := os.Mkdir(point, 0o700); err != nil {
		return "", err
	}
	s.undo = append(s.undo, func() error { return os.Remove(point) })
	// Nothing of the file system is left to be initialised while it is measured.
	if _, err := command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image); err != nil {
		return "", err
	}
	loop, err = command("losetup", "--find", "--show", "--direct-io=on", image)
	if err != nil {
		return "", err
	}
	if err := unix.Mount(loop, point, "ext4", unix.MS_NOATIME, ""); err != nil {
		_, detach := command("losetup", "--detach", loop)
		return "", errors.Join(&os.PathError{Op: "mount", Path: loop, Err: err}, detach)
	}
	s.undo = append(s.undo, func() error {
		if patiently(func() error { return unix.Unmount(point, 0) }) == nil {
			return nil
		}
		return unix.Unmount(point, unix.MNT_DETACH) // goes when its last file is closed
	})
	// The device goes away by itself with the last user, the mount.
	if _, err := command("losetup", "--detach", loop); err != nil {
		return "", err
	}
	if s.card != nil {
		s.card.slow.Store(true)
	}
	return loop, nil
}

// patiently tries again for a while: files of a process that has just died may still be open.
func patiently(f func() error) (err error) {
	for range 50 {
		if err = f(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%w: with Debian: apt-get install e2fsprogs mount", err)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return text, nil
}

// newMountedTarget starts the helper for a journaled ext4 on a loop device below dir. Kind is loop
// or card.
func newMountedTarget(kind, dir string, size int64) (t *target, err error) {
	dir, err = os.MkdirTemp(dir, "bench-journal-")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	helper := exec.Command(self, helperArg, kind, dir, fmt.Sprint(size))
	helper.Stderr = os.Stderr
	helper.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // Ctrl-C is for us to handle
	in, err := helper.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := helper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := helper.Start(); err != nil {
		return nil, err
	}
	end := func() error { return errors.Join(in.Close(), helper.Wait(), os.RemoveAll(dir)) }
	lines := bufio.NewReader(out)
	loop, err := lines.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("cannot set up the %s: %w", kind, errors.Join(err, end()))
	}
	stat := filepath.Join("/sys/block", filepath.Base(strings.TrimSpace(loop)), "stat")
	t = &target{name: kind, dir: filepath.Join(dir, "mnt"), close: end}
	t.counters = func() (deviceCounters, error) { return readDeviceStat(stat) }
	if kind == "card" {
		t.counters = func() (c deviceCounters, err error) {
			if _, err := io.WriteString(in, "\n"); err != nil {
				return c, err
			}
			_, err = fmt.Fscan(lines, &c.bytes, &c.flushes)
			return c, err
		}
	}
	return t, nil
}
