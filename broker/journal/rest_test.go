package journal

import (
	"fmt"
	"testing"

	"holdfast/broker"
)

// TestReadersThatRest: readers that have fallen behind and take nothing for a while keep little memory, however many
// they are and whatever they read last, and go on where they were.
func TestReadersThatRest(t *testing.T) {
	j := open(t, t.TempDir(), nil)
	defer closeJournal(t, j)
	var readers []*Reader
	for i := range 50 {
		readers = append(readers, reader(t, j, fmt.Sprint(i)))
	}
	publish(t, j, 0, 20, readers...)
	big := &waiter{}
	var owed []Owed
	for _, r := range readers {
		owed = append(owed, Owed{Reader: r, QoS: 1})
	}
	big.wg.Add(1)
	if err := j.Append(Entry{Message: &broker.Message{Topic: "t/6", Payload: append(message(20).Payload, make([]byte, 1<<20)...), QoS: 1}, Owed: owed, Done: big}); err != nil {
		t.Fatal(err)
	}
	big.wg.Wait()
	publish(t, j, 21, 40, readers...)
	held := func() (n int64) {
		for _, r := range readers {
			if r.scan.scanner != nil {
				n += int64(cap(r.scan.scanner.buf) + cap(r.scan.memory))
			}
		}
		return n
	}
	for _, r := range readers {
		r.Attach()
	}
	for n := range 40 {
		for _, r := range readers {
			expect(t, r, n, n+1, n%2 == 0)
			r.Rest()
			if n%7 == 0 {
				r.Rest()
			}
		}
		if got := held(); got > sharedRestBytes || got != j.memory.resting.Load() {
			t.Fatalf("after message %d resting readers hold %d bytes, of which %d count; want at most %d", n, got, j.memory.resting.Load(), sharedRestBytes)
		}
	}
	for i, r := range readers {
		if i%2 == 0 {
			r.Detach()
		} else {
			none(t, r) // has caught up
		}
	}
	if got := held(); got != 0 || j.memory.resting.Load() != 0 {
		t.Errorf("%d bytes are held, %d count", got, j.memory.resting.Load())
	}
}
