package journal

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestDamageCostsWhatItHit flips bytes at random places of a closed journal. What was hit is lost and
// named, to the message, and everything else is there.
func TestDamageCostsWhatItHit(t *testing.T) {
	const total, rounds = 3000, 60
	source := t.TempDir()
	small := func(o *Options) {
		o.SegmentSize = smallestPart
		withoutSync(o)
	}
	j := open(t, source, small)
	a, b := reader(t, j, "a"), reader(t, j, "b")
	for n := 0; n < total; n += 10 {
		publish(t, j, n, n+5, a, b)
		publish(t, j, n+5, n+10, a)
	}
	closeJournal(t, j)
	v, err := Inspect(source)
	if err != nil {
		t.Fatal(err)
	}
	type extent struct {
		segment  string
		from, to int64
	}
	frames := map[uint64]extent{}
	if err := v.Records(Select{}, func(r *Record) error {
		if r.Message != nil {
			frames[r.Seq] = extent{r.Segment, r.Offset, r.Offset + int64(r.Size)}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(frames) != total {
		t.Fatalf("%d messages, want %d", len(frames), total)
	}
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		names, _ := filepath.Glob(filepath.Join(dir, "*"+segSuffix))
		hit := map[uint64]bool{}
		for range 1 + rng.IntN(20) {
			name := names[rng.IntN(len(names))]
			at := headerSize + rng.Int64N(smallestPart-headerSize)
			length := int64(1)
			if rng.IntN(4) == 0 {
				length = 1 + rng.Int64N(3000)
			}
			rot(t, name, at, length)
			for seq, e := range frames {
				if e.segment == filepath.Base(name) && e.from < at+length && at < e.to {
					hit[seq] = true
				}
			}
		}
		j := open(t, dir, small)
		checkDamage(t, seed, j, hit, total)
		closeJournal(t, j)
	}
}

// rot changes bytes of a file, each of them.
func rot(t *testing.T, name string, at, length int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, length)
	n, _ := f.ReadAt(b, at)
	for i := range b[:n] {
		b[i] ^= 0x5a
	}
	if _, err := f.WriteAt(b[:n], at); err != nil {
		t.Fatal(err)
	}
}

func checkDamage(t *testing.T, seed uint64, j *Journal, hit map[uint64]bool, total int) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		owed := func(seq uint64) bool { return name == "a" || (seq-1)%10 < 5 }
		r := reader(t, j, name)
		r.Attach()
		var want []uint64
		for seq := uint64(1); seq <= uint64(total); seq++ {
			if owed(seq) && !hit[seq] {
				want = append(want, seq)
			}
		}
		var got []uint64
		for {
			d, ok, err := r.TryNext()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got = append(got, d.Seq)
			r.Ack(d.Seq)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: %s got %d messages, want %d; hit %v", seed, name, len(got), len(want), slices.Sorted(maps.Keys(hit)))
		}
		missed := uint64(0)
		for seq := range hit {
			if owed(seq) {
				missed++
			}
		}
		if n := lost(j, name); n != missed || r.Depth() != 0 {
			t.Fatalf("round %d: %s lost %d and waits for %d, want %d and 0: %+v", seed, name, n, r.Depth(), missed, j.Losses())
		}
		for _, l := range j.Losses() {
			if l.Reader == name && (l.Reason != ReasonDamage || !slices.ContainsFunc(slices.Collect(maps.Keys(hit)), func(s uint64) bool {
				return l.First <= s && s <= l.Last
			})) {
				t.Errorf("round %d: %+v names nothing that was hit: %v", seed, l, slices.Sorted(maps.Keys(hit)))
			}
		}
	}
}
