package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Backlog is the result of opening and draining a queue that had no reader yet. Nothing of
// it is in the page cache then.
type Backlog struct {
	Target string
	Queue  string
	Bytes  int64 // of payload

	FillHeap  float64 // MiB, the largest seen, garbage included
	OpenMS    float64 // to open it
	OpenHeap  float64 // MiB that stay in use once it is open
	DrainHeap float64 // MiB, the largest seen, garbage included
	Messages  float64 // drained and acknowledged a second
	Drain     float64 // MB of payload a second
	Read      float64 // MB a second that the same files can be read with, in order
}

// measureBacklog fills a new queue in dir, then opens and drains it.
func measureBacklog(ctx context.Context, t *target, e engine, size int64, messages []message) (b Backlog, err error) {
	b = Backlog{Target: t.name, Queue: e.name, Bytes: size}
	dir := filepath.Join(t.dir, "backlog")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	q, err := e.open(dir)
	if err != nil {
		return b, err
	}
	count := uint64(size / payloadSize)
	b.FillHeap, err = heapDuring(func() error { return fill(ctx, q, messages, count) })
	if err = errors.Join(err, q.close()); err != nil {
		return b, err
	}
	if err := forgetFiles(t, dir); err != nil {
		return b, err
	}
	if b.Read, err = readRate(dir); err != nil {
		return b, err
	}
	if err := forgetFiles(t, dir); err != nil {
		return b, err
	}
	runtime.GC()
	start := time.Now()
	if q, err = e.open(dir); err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	b.OpenMS = float64(time.Since(start).Microseconds()) / 1e3
	runtime.GC()
	b.OpenHeap = newHeapMeter().most()
	var drained uint64
	start = time.Now()
	b.DrainHeap, err = heapDuring(func() (err error) {
		drained, err = q.drain(ctx, func([]byte) {})
		return err
	})
	if err != nil {
		return b, err
	}
	if drained < count {
		return b, fmt.Errorf("drained %d messages, want at least %d", drained, count)
	}
	b.Messages = float64(drained) / time.Since(start).Seconds()
	b.Drain = b.Messages * payloadSize / 1e6
	return b, nil
}

// heapDuring returns the largest heap in MiB while f runs.
func heapDuring(f func() error) (most float64, err error) {
	runtime.GC()
	h := newHeapMeter()
	done := make(chan error)
	go func() { done <- f() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.read()
		case err := <-done:
			return h.most(), err
		}
	}
}

// forgetFiles flushes the files below dir to disk and drops them from the page cache.
func forgetFiles(t *target, dir string) error {
	if err := t.sync(); err != nil {
		return err
	}
	return eachFile(dir, func(f *os.File) error {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return &os.PathError{Op: "fadvise", Path: f.Name(), Err: err}
		}
		return nil
	})
}

// readRate reads all files below dir and returns MB a second.
func readRate(dir string) (float64, error) {
	buf := make([]byte, 1<<20)
	total := 0
	start := time.Now()
	err := eachFile(dir, func(f *os.File) error {
		for {
			n, err := f.Read(buf)
			total += n
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	return float64(total) / 1e6 / time.Since(start).Seconds(), err
}

func eachFile(dir string, f func(*os.File) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		return f(file)
	})
}
