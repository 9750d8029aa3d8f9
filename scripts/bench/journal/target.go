package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// deviceCounters are what a device has done so far.
type deviceCounters struct {
	bytes   uint64 // written
	flushes uint64
}

// target is storage to measure on.
type target struct {
	name     string
	dir      string
	counters func() (deviceCounters, error)
	close    func() error
}

// newDirTarget measures on the disk that dir is on. Its counters are those of the whole disk.
func newDirTarget(dir string) (*target, error) {
	stat, err := deviceStat(dir)
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "bench-journal-")
	if err != nil {
		return nil, err
	}
	return &target{
		name: "disk", dir: dir,
		counters: func() (deviceCounters, error) { return readDeviceStat(stat) },
		close:    func() error { return os.RemoveAll(dir) },
	}, nil
}

// deviceStat finds the counters of the disk below dir (Documentation/ABI/stable/sysfs-block).
func deviceStat(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return "", fmt.Errorf("%s is on no block device: choose another directory with -dir: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(device, "partition")); err == nil {
		device = filepath.Dir(device) // a partition does not count flushes
	}
	return filepath.Join(device, "stat"), nil
}

// readDeviceStat takes the 7th field, sectors of 512 bytes, and the 16th, flushes
// (Documentation/block/stat.rst).
func readDeviceStat(name string) (c deviceCounters, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return c, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 16 {
		return c, fmt.Errorf("%s: got %d fields, want at least 16: flushes are counted since Linux 5.5", name, len(fields))
	}
	sectors, err1 := strconv.ParseUint(fields[6], 10, 64)
	flushes, err2 := strconv.ParseUint(fields[15], 10, 64)
	return deviceCounters{sectors * 512, flushes}, errors.Join(err1, err2)
}

// sync writes out everything that the file system still holds.
func (t *target) sync() error {
	f, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: t.dir, Err: err}
	}
	return nil
}
