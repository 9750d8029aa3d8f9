package torture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"holdfast/broker/journal"
)

// judge waits until the whole backlog has arrived, and compares.
func (b *bench) judge(ctx context.Context) error {
	b.Refused = int(b.load.refused.Load())
	if err := errors.Join(b.up.Start(), b.link.Join(), b.gateway.terminate()); err != nil {
		return err
	}
	// What was stored of readings is a promise as well: their number is kept in one record with them.
	stored, err := b.storedReadings()
	if err != nil {
		return err
	}
	for series, last := place(stored); last > 0; last-- {
		b.ledger.Acknowledged(series, last)
	}
	if err := b.gateway.start(ctx, b.configs[0]); err != nil { // without sensors
		return err
	}
	b.drain()
	if err := b.gateway.terminate(); err != nil {
		return err
	}
	t := b.ledger.Totals()
	b.Acknowledged, b.Arrived, b.Duplicates, b.Disorder = t.Acknowledged, t.Acknowledged-t.Missing, t.Duplicates, t.Disorder
	announced, err := b.announced()
	if err != nil {
		return err
	}
	b.Dropped = min(t.Missing, announced)
	b.Lost = t.Missing - b.Dropped
	if !b.drops && announced > 0 {
		return fmt.Errorf("the gateway has dropped %d messages, and no limit was reached that allows it", announced)
	}
	return nil
}

// drain waits until nothing is missing but what is announced as dropped, or nothing more comes.
func (b *bench) drain() {
	stalled := min(15*time.Second, b.opts.For)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, since := -1, time.Now()
	for time.Since(since) < stalled {
		t := b.ledger.Totals()
		if t.Missing == 0 {
			return
		}
		n := t.Delivered + t.Duplicates
		if n != last {
			last, since = n, time.Now()
		} else if b.drops && time.Since(since) > stalled/4 {
			if dropped, err := b.announced(); err == nil && t.Missing <= dropped {
				return
			}
		}
		<-tick.C
	}
}

// storedReadings is the number of the newest reading on the disk. The gateway does not run.
func (b *bench) storedReadings() (seq uint64, err error) {
	v, err := b.view()
	if err != nil {
		return 0, err
	}
	v.Range("gateway/seq", func(_ string, value []byte) bool {
		seq, _ = binary.Uvarint(value)
		return false
	})
	return seq, nil
}

// announced returns how many messages the journal has announced as dropped, for any reason.
func (b *bench) announced() (n int, err error) {
	v, err := b.view()
	if err != nil {
		return 0, err
	}
	for _, l := range v.Losses() {
		n += int(l.Count)
	}
	return n, nil
}

func (b *bench) view() (*journal.View, error) {
	return journal.Inspect(filepath.Join(b.data, "journal"))
}
