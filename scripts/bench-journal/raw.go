package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	rawFile = 16 << 20
	block   = 4096
)

// batchBytes is what n messages take at least: payload and 16 bytes each, in whole blocks.
func batchBytes(n int) int { return (n*(payloadSize+16) + block - 1) / block * block }

// rawRate is R(size): how many times a second size bytes can be written over zeros and synchronised,
// one after the other. Nothing that commits before it acknowledges is faster on the same storage.
func rawRate(ctx context.Context, t *target, size int, length time.Duration) (rate float64, err error) {
	name := filepath.Join(t.dir, "raw")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	if _, err := f.WriteAt(make([]byte, rawFile), 0); err != nil {
		return 0, err
	}
	if err := t.sync(); err != nil {
		return 0, err
	}
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data)
	start := time.Now()
	count, at := 0, 0
	for time.Since(start) < length && ctx.Err() == nil {
		if at+size > rawFile {
			at = 0
		}
		if _, err := f.WriteAt(data, int64(at)); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, &os.PathError{Op: "fdatasync", Path: name, Err: err}
		}
		at += size
		count++
	}
	return float64(count) / time.Since(start).Seconds(), ctx.Err()
}
