package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
)

// TestOthersFillTheDisk lets others take and return space, all of it or some, in random histories, while messages
// come and a slow consumer acknowledges some. Under drop-oldest none is refused: the oldest go. Each message that
// was taken is delivered or counted for keep_free, and while there is space none is dropped.
func TestOthersFillTheDisk(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			disk := simdisk.New()
			disk.Size = 24 << 20
			j, r := openOn(t, disk, func(o *journal.Options) {
				o.MaxSize, o.SegmentSize, o.KeepFree = 64<<20, 256<<10, int64(random.IntN(2))<<20
			})
			lost := func() (n uint64) {
				for _, l := range j.Losses() {
					if l.Reason != journal.ReasonFree {
						t.Fatalf("loss %+v", l)
					}
					n += l.Count
				}
				return n
			}
			r.Attach()
			taken, acked := 0, 0
			for round := range 8 {
				if round%2 == 1 {
					disk.Others(disk.Size - random.Int64N(2)*random.Int64N(4<<20))
				} else {
					disk.Others(0)
					for range 200 { // what the maintainer began when there was none ends meanwhile
						if err := put(j, r, 4000); err != nil {
							t.Fatal(err)
						}
						taken++
					}
				}
				before := lost()
				for range 100 + random.IntN(400) {
					if err := put(j, r, 4000); err != nil {
						t.Fatalf("round %d, message %d: %v", round, taken, err)
					}
					taken++
					if random.IntN(4) == 0 {
						if d, ok, err := r.TryNext(); err != nil {
							t.Fatal(err)
						} else if ok && r.Ack(d.Seq) {
							acked++
						}
					}
				}
				if now := lost(); round%2 == 0 && now > before {
					t.Errorf("round %d: %d messages given up with %d bytes free", round, now-before, disk.Size/2)
				}
			}
			r.Detach()
			got, gone := account(t, j, r)
			if acked+got+gone != taken {
				t.Errorf("%d acknowledged, %d left and %d lost of %d", acked, got, gone, taken)
			}
			disk.Others(0)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// lines counts the records of a log by message.
type lines struct {
	slog.Handler
	mu sync.Mutex
	of map[string]int
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[r.Message]++
	return nil
}

// TestSnapshotsFail lets checkpoints fail while segments come and go: no unfinished file is left, one cause is one line
// in the log, attempts are few, and one is made when the fault is over.
func TestSnapshotsFail(t *testing.T) {
	for _, op := range []simdisk.Op{simdisk.Create, simdisk.Write, simdisk.Datasync, simdisk.Rename} {
		t.Run(string(op), func(t *testing.T) {
			disk := simdisk.New()
			var failing atomic.Bool
			var attempts atomic.Int64
			disk.Fail = func(did simdisk.Op, name string) error {
				if did != op || !strings.Contains(name, ".snap") || !failing.Load() {
					return nil
				}
				attempts.Add(1)
				return syscall.EIO
			}
			log := &lines{of: map[string]int{}}
			j, r := openOn(t, disk, func(o *journal.Options) {
				o.MaxSize, o.SegmentSize, o.Log = 64<<20, 256<<10, slog.New(log)
			})
			failing.Store(true)
			for range 2000 { // some 30 segments
				if err := put(j, r, 4000); err != nil {
					t.Fatal(err)
				}
			}
			files, _ := disk.List()
			unfinished := 0
			for _, f := range files {
				if strings.HasSuffix(f.Name, ".tmp") {
					unfinished++
				}
			}
			if unfinished > 1 { // one may be under way
				t.Errorf("%d unfinished files", unfinished)
			}
			if n := attempts.Load(); n == 0 || n > 10 {
				t.Errorf("%d attempts", n)
			}
			log.mu.Lock()
			for message, n := range log.of {
				if n > 1 {
					t.Errorf("%d lines: %s", n, message)
				}
			}
			if log.of["journal: housekeeping failed"] == 0 {
				t.Error("no line tells of it")
			}
			log.mu.Unlock()
			failing.Store(false)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			files, _ = disk.List()
			whole := 0
			for _, f := range files {
				if strings.HasSuffix(f.Name, ".snap") {
					whole++
				} else if strings.HasSuffix(f.Name, ".tmp") {
					t.Errorf("%s is left", f.Name)
				}
			}
			if whole == 0 {
				t.Error("no snapshot when the fault was over")
			}
		})
	}
}

// TestOthersFillARealDisk fills a small tmpfs beside the journal, and frees it again.
func TestOthersFillARealDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skip("only root can mount: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	fsys, err := journal.NewDirFS(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	j, r := openOn(t, fsys, func(o *journal.Options) { o.MaxSize, o.SegmentSize = 64<<20, 256<<10 })
	taken := 0
	puts := func(n int) {
		t.Helper()
		for range n {
			if err := put(j, r, 4000); err != nil {
				t.Fatalf("message %d: %v", taken, err)
			}
			taken++
		}
	}
	puts(1000)
	for range 3 {
		other, err := os.Create(filepath.Join(dir, "other"))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = other.Write(make([]byte, 4096))
		}
		other.Close()
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		puts(600)
		if err := os.Remove(filepath.Join(dir, "other")); err != nil {
			t.Fatal(err)
		}
		puts(200) // what the maintainer began when there was none ends meanwhile
		_, before := account(t, j, r)
		r.Detach()
		puts(400)
		if _, lost := account(t, j, r); lost != before {
			t.Errorf("%d given up although there is space", lost-before)
		}
		r.Detach()
	}
	got, lost := account(t, j, r)
	if got+lost != taken || lost == 0 {
		t.Errorf("%d left and %d lost of %d", got, lost, taken)
	}
	for _, l := range j.Losses() {
		if l.Reason != journal.ReasonFree {
			t.Errorf("loss %+v", l)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
