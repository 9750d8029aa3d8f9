package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"holdfast/broker/journal"
	"holdfast/scripts/guest"
)

// finding is what the journal on a disk holds of what was acknowledged.
type finding struct {
	acknowledged, found, lost int
	unacknowledged            int // stored although the acknowledgement was lost: as good as any
	duplicates                int // sent again after a cut although they had arrived
	corrupt, invented         int
	disorder                  []string
}

func (f *finding) ok() bool {
	return f.lost == 0 && f.corrupt == 0 && f.invented == 0 && len(f.disorder) == 0
}

func (f *finding) String() string {
	return fmt.Sprintf("%d acknowledged, %d found, %d lost, %d duplicated by resend, %d stored and not acknowledged, %d corrupt, %d invented, %d out of order",
		f.acknowledged, f.found, f.lost, f.duplicates, f.unacknowledged, f.corrupt, f.invented, len(f.disorder))
}

// checker compares what comes out of a journal, message by message, with what was published.
type checker struct {
	publishers map[string]*publisher
	seen       map[string][]int // by topic and number: how often
	last       map[string]int   // by topic: the number before
	finding
}

func newChecker(publishers []*publisher) *checker {
	c := &checker{publishers: map[string]*publisher{}, seen: map[string][]int{}, last: map[string]int{}}
	for _, p := range publishers {
		c.publishers[p.topic] = p
		c.seen[p.topic] = make([]int, len(p.acked))
		c.last[p.topic] = -1
	}
	return c
}

// add takes the next message in the journal's order. A publisher's number is one more than the last,
// or steps back to one that had to be sent again.
func (c *checker) add(topic string, payload []byte) {
	p, ok := c.publishers[topic]
	if !ok || len(payload) < 8 {
		c.invented++
		return
	}
	n := int(binary.BigEndian.Uint64(payload))
	if n < 0 || n >= len(p.acked) {
		c.invented++
		return
	}
	if !bytes.Equal(payload, p.content(n)) {
		c.corrupt++
		return
	}
	if last := c.last[topic]; n > last+1 && c.seen[topic][n-1] == 0 || n <= last-window {
		c.disorder = append(c.disorder, fmt.Sprintf("%s: %d after %d", topic, n, last))
	}
	c.last[topic] = n
	c.seen[topic][n]++
	if c.seen[topic][n] > 1 {
		c.duplicates++
	}
}

func (c *checker) result() *finding {
	for topic, p := range c.publishers {
		for n, acked := range p.acked {
			there := c.seen[topic][n] > 0
			switch {
			case acked && there:
				c.acknowledged, c.found = c.acknowledged+1, c.found+1
			case acked:
				c.acknowledged, c.lost = c.acknowledged+1, c.lost+1
			case there:
				c.unacknowledged++
			}
		}
	}
	return &c.finding
}

// check looks at the disk as the cut has left it: at a copy, whose ext4 is repaired as a boot would do
// it, so that the guest's own repair and recovery come to the same disk untouched.
func check(ctx context.Context, image, work string, publishers []*publisher) (*finding, error) {
	copied, files := filepath.Join(work, "copy"), filepath.Join(work, "files")
	if err := os.RemoveAll(files); err != nil {
		return nil, err
	}
	if err := os.Mkdir(files, 0o755); err != nil {
		return nil, err
	}
	if err := guest.Run(ctx, "cp", "--sparse=always", image, copied); err != nil {
		return nil, err
	}
	if err := guest.Run(ctx, "e2fsck", "-y", "-E", "journal_only", copied); err != nil {
		return nil, err
	}
	if err := guest.Run(ctx, "e2fsck", "-f", "-n", copied); err != nil { // whole again, or the copy is no witness
		return nil, err
	}
	if err := guest.Run(ctx, "debugfs", "-R", "rdump /journal "+files, copied); err != nil {
		return nil, err
	}
	dir := filepath.Join(files, "journal")
	if _, err := os.Stat(dir); os.IsNotExist(err) { // cut before the first commit
		return newChecker(publishers).result(), nil
	}
	v, err := journal.Inspect(dir)
	if err != nil {
		return nil, err
	}
	report, err := v.Verify()
	if err != nil {
		return nil, err
	}
	if report.Damaged() || len(v.Losses()) > 0 {
		return nil, fmt.Errorf("the journal is damaged: %+v, losses %+v", report.Damage, v.Losses())
	}
	c := newChecker(publishers)
	err = v.Records(journal.Select{}, func(r *journal.Record) error {
		if slices.ContainsFunc(r.Owed, func(o journal.RecordOwed) bool { return o.Reader == "bridge/up" && o.Waits }) {
			c.add(r.Message.Topic, r.Message.Payload)
		}
		return nil
	})
	return c.result(), err
}
