package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	rawFile = 16 << 20
	block   = 4096
)

// batchBytes is what n messages take at least: payload and 16 bytes each, in whole blocks.
func batchBytes(n int) int { return (n*(payloadSize+16) + block - 1) / block * block }

// rawRate is R(size): how many times a second size bytes can be written over zeros and synchronised,
// one after the other. Nothing that commits before it acknowledges is faster on the same storage. It
// is the better of writing through the page cache and past it (O_DIRECT).
func rawRate(ctx context.Context, t *target, size int, length time.Duration) (float64, error) {
	best := 0.0
	for _, flag := range []int{0, unix.O_DIRECT} {
		rate, err := rawRateWith(ctx, t, flag, size, length/2)
		if err != nil && flag == 0 {
			return 0, err
		}
		best = max(best, rate) // not every file system knows O_DIRECT
	}
	return best, nil
}

func rawRateWith(ctx context.Context, t *target, flag, size int, length time.Duration) (rate float64, err error) {
	name := filepath.Join(t.dir, "raw")
	if err := os.WriteFile(name, make([]byte, rawFile), 0o600); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(name)) }()
	if err := t.sync(); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|flag, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	data := alignedBuffer(size)
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

// alignedBuffer returns memory that O_DIRECT takes.
func alignedBuffer(size int) []byte {
	b := make([]byte, size+block)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (block - 1)
	return b[skip : skip+size]
}
