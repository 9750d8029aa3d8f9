package journal_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
)

// TestRefusedIsNotLost: messages that are refused for want of space are never named as lost, and none is named as
// damage: neither now nor by the next start.
func TestRefusedIsNotLost(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			disk := simdisk.New()
			var failing atomic.Bool
			disk.Fail = func(op simdisk.Op, name string) error {
				if failing.Load() && (op == simdisk.Create || op == simdisk.Allocate || op == simdisk.Write && strings.HasSuffix(name, ".seg")) {
					return syscall.ENOSPC
				}
				return nil
			}
			open := func() (*journal.Journal, *journal.Reader) {
				return openOn(t, disk, func(o *journal.Options) { o.MaxSize, o.SegmentSize = 8<<20, 256<<10 })
			}
			j, r := open()
			r.Attach()
			taken, acked, refused := 0, 0, 0
			for round := range 6 {
				failing.Store(round%2 == 1)
				for range 50 + random.IntN(200) {
					if err := put(j, r, 4000); err != nil {
						refused++
					} else {
						taken++
					}
					if random.IntN(3) == 0 {
						if d, ok, err := r.TryNext(); err != nil {
							t.Fatal(err)
						} else if ok && r.Ack(d.Seq) {
							acked++
						}
					}
				}
			}
			failing.Store(false)
			r.Detach()
			for again := range 2 {
				got, lost := account(t, j, r)
				if acked+got+lost != taken || refused == 0 {
					t.Errorf("start %d: %d acknowledged, %d left and %d lost of %d; %d refused", again, acked, got, lost, taken, refused)
				}
				for _, l := range j.Losses() {
					if l.Reason != journal.ReasonFree && l.Reason != journal.ReasonSize {
						t.Errorf("start %d: loss %+v", again, l)
					}
				}
				r.Detach()
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				j, r = open()
			}
			j.Close()
		})
	}
}
