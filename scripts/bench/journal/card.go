package main

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The simulated card serves one command at a time, each for as long as a slow SD card takes. A
// flush is a command as well.
const (
	cardCommand = time.Millisecond
	cardRate    = 20 << 20 // bytes a second, both ways
	cardName    = "card"
)

// card is a FUSE file system with one file, on which a loop device stands. What is written to the
// file holds what is written to the card.
type card struct {
	fs.Inode
	file *os.File
	size int64

	busy    sync.Mutex
	slow    atomic.Bool
	bytes   atomic.Uint64 // written
	flushes atomic.Uint64
}

// cardFile is the file. Every open of it is of the same card.
type cardFile struct {
	fs.Inode
	c *card
}

var (
	_ fs.NodeOnAdder   = (*card)(nil)
	_ fs.NodeOpener    = (*cardFile)(nil)
	_ fs.NodeGetattrer = (*cardFile)(nil)
	_ fs.NodeReader    = (*cardFile)(nil)
	_ fs.NodeWriter    = (*cardFile)(nil)
	_ fs.NodeFsyncer   = (*cardFile)(nil)
)

// mountCard mounts a card of size bytes, kept in a sparse file, on dir.
func mountCard(dir, backing string, size int64) (*card, *fuse.Server, error) {
	f, err := os.OpenFile(backing, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, nil, err
	}
	c := &card{file: f, size: size}
	server, err := fs.Mount(dir, c, &fs.Options{MountOptions: fuse.MountOptions{
		FsName: "bench-journal", Name: "card", DirectMount: true, MaxWrite: 512 << 10,
	}})
	return c, server, err
}

func (c *card) OnAdd(ctx context.Context) {
	node := &cardFile{c: c}
	c.AddChild(cardName, c.NewPersistentInode(ctx, node, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

// command takes the time of one command that moves n bytes.
func (c *card) command(n int) {
	if !c.slow.Load() {
		return
	}
	d := cardCommand + time.Duration(n)*time.Second/cardRate
	c.busy.Lock()
	defer c.busy.Unlock()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // or Linux is late by 50 us
	nap(d)
}

func (f *cardFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (f *cardFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = syscall.S_IFREG | 0o600
	out.Size = uint64(f.c.size)
	return 0
}

func (f *cardFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.c.command(len(dest))
	n, err := f.c.file.ReadAt(dest, off)
	if err != nil && n == 0 {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

func (f *cardFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	f.c.command(len(data))
	f.c.bytes.Add(uint64(len(data)))
	n, err := f.c.file.WriteAt(data, off)
	return uint32(n), fs.ToErrno(err)
}

func (f *cardFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.c.command(0)
	f.c.flushes.Add(1)
	return 0
}
