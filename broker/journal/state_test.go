package journal

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// TestStateWhileItChanges reads the state while other keys come and go: Range returns each key that stays once and
// in order, and its callback may use the journal.
func TestStateWhileItChanges(t *testing.T) {
	j := open(t, t.TempDir(), nil)
	defer closeJournal(t, j)
	const stay = 5000
	var changes []Change
	var want []string
	for i := range stay {
		key := fmt.Sprintf("stay/%05d", i)
		want = append(want, key)
		changes = append(changes, Change{Key: key, Value: []byte(key)})
	}
	change := func(changes ...Change) error {
		w := &waiter{}
		w.wg.Add(1)
		if err := j.Append(Entry{Changes: changes, Done: w}); err != nil {
			return err
		}
		w.wg.Wait()
		return nil
	}
	if err := change(changes...); err != nil {
		t.Fatal(err)
	}

	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			key := fmt.Sprintf("stays not/%d", i%3000)
			value := []byte("x")
			if i/3000%2 == 1 {
				value = nil
			}
			if err := change(Change{Key: key, Value: value}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20 {
		var got []string
		j.Range("stay/", func(key string, value []byte) bool {
			got = append(got, key)
			if string(value) != key {
				t.Errorf("%s: got %q", key, value)
			}
			if v, ok := j.Get(key); !ok || string(v) != key { // no lock is held
				t.Errorf("Get(%s): got %q, %v", key, v, ok)
			}
			return true
		})
		if !slices.Equal(got, want) {
			t.Fatalf("got %d keys, want %d in order", len(got), len(want))
		}
	}
	close(stop)
	others.Wait()
	if v, ok := j.Get("stay/"); ok {
		t.Errorf("a prefix is no key: got %q", v)
	}
	if n := testing.AllocsPerRun(100, func() { j.Get("stay/00042") }); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
}
