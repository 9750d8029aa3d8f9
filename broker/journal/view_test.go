package journal

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func inspected(t testing.TB, dir string) *View {
	t.Helper()
	v, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func verified(t testing.TB, dir string) *Report {
	t.Helper()
	r, err := inspected(t, dir).Verify()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// waitingFor lists the messages pending for a reader, as an inspection sees them.
func waitingFor(t testing.TB, dir, reader string) (numbers []int) {
	t.Helper()
	err := inspected(t, dir).Records(Select{}, func(r *Record) error {
		if slices.ContainsFunc(r.Owed, func(o RecordOwed) bool { return o.Reader == reader && o.Waits }) {
			numbers = append(numbers, number(r.Message))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return numbers
}

func upTo(from, to int) (numbers []int) {
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// contents is every file of dir, to see that nothing was written.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = string(b)
	}
	return files
}

func flip(t testing.TB, file string, at ...int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range at {
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x40
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
}

// flipMessages damages messages, each in its payload.
func flipMessages(t testing.TB, dir string, numbers ...int) {
	t.Helper()
	at := map[string][]int64{}
	err := inspected(t, dir).Records(Select{}, func(r *Record) error {
		if r.Kind == "message" && slices.Contains(numbers, number(r.Message)) {
			at[r.Segment] = append(at[r.Segment], r.Offset+int64(r.Size)-10)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, offsets := range at {
		flip(t, filepath.Join(dir, name), offsets...)
	}
}

// neighbours returns a message that has the next one right behind it: they came in one batch.
func neighbours(t testing.TB, dir string) (n int) {
	t.Helper()
	end := int64(-1)
	err := inspected(t, dir).Records(Select{}, func(r *Record) error {
		if r.Kind == "message" && r.Offset == end && number(r.Message) > 1 {
			n = number(r.Message) - 1
			return errStop
		}
		end = r.Offset + int64(align(r.Size))
		return nil
	})
	if n == 0 || err != nil && !errors.Is(err, errStop) {
		t.Fatal("no two messages came in one batch", err)
	}
	return n
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*"+segSuffix))
	if len(names) == 0 {
		t.Fatal("no segments")
	}
	return names
}

func smallSegments(o *Options) { o.SegmentSize = 256 << 10 }

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, smallSegments)
	a, b := reader(t, j, "a"), reader(t, j, "b")
	a.Attach()
	publish(t, j, 0, 3000, a)
	expect(t, a, 0, 1000, true)
	publish(t, j, 3000, 6000, a, b)
	for _, running := range []bool{true, false} {
		var before map[string]string
		if !running {
			closeJournal(t, j)
			before = contents(t, dir)
		}
		v := inspected(t, dir)
		info := v.Info()
		want := 0
		if running {
			want = os.Getpid()
		}
		if info.Holder != want || info.Messages != 6000 || len(info.Readers) != 2 || info.Format != version || info.Clock.Wall.IsZero() {
			t.Fatalf("running %v: %+v", running, info)
		}
		ra, rb := info.Readers[0], info.Readers[1]
		if ra.Depth != 5000 || ra.Oldest != 1001 || rb.Depth != 3000 || rb.Oldest != 3001 || ra.OldestTime.Wall.IsZero() {
			t.Fatalf("running %v: readers: %+v", running, info.Readers)
		}
		waiting := map[string]uint64{}
		for _, s := range v.Segments() {
			for name, n := range s.Waiting {
				waiting[name] += n
			}
			if !s.Unused && (s.To.Wall.IsZero() || s.From.Wall.After(s.To.Wall)) {
				t.Errorf("%s: from %v to %v", s.Name, s.From, s.To)
			}
		}
		if want := map[string]uint64{"a": 5000, "b": 3000}; !maps.Equal(waiting, want) {
			t.Errorf("running %v: waiting in segments: got %v, want %v", running, waiting, want)
		}
		if got := waitingFor(t, dir, "a"); !slices.Equal(got, upTo(1000, 6000)) {
			t.Errorf("running %v: %d messages wait for a", running, len(got))
		}
		if r := verified(t, dir); r.Damaged() || r.Messages < 5000 || len(r.Foreign)+len(r.Aside) > 0 {
			t.Errorf("running %v: verify: %+v", running, r)
		}
		if !running && !maps.Equal(before, contents(t, dir)) {
			t.Error("looking has changed the files")
		}
	}
}

func TestInspectNothing(t *testing.T) {
	empty, file := t.TempDir(), filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		empty: "holds no journal", file: "is no directory", filepath.Join(empty, "x"): "no such directory",
	} {
		if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
}

// TestInspectBesideWriter looks at a journal again and again while it is appended to, acknowledged and
// recycled as fast as it goes: nothing may look damaged.
func TestInspectBesideWriter(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, func(o *Options) { o.MaxSize = smallestSize })
	a, b := reader(t, j, "a"), reader(t, j, "slow") // whose messages are dropped
	a.Attach()
	publish(t, j, 0, 1, a, b)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 1; ; n += 500 {
			select {
			case <-stop:
				return
			default:
			}
			publish(t, j, n, n+500, a, b)
			for {
				d, ok, err := a.TryNext()
				if err != nil {
					t.Error(err)
				}
				if !ok {
					break
				}
				a.Ack(d.Seq)
			}
		}
	}()
	recycled, busy := 0, 0
	for round := 0; round < 15; round++ {
		v, err := Inspect(dir)
		if err != nil && strings.Contains(err.Error(), "try again under less load") && busy < 100 {
			busy++ // the writer was faster, which is no mistake
			round--
			continue
		}
		if err != nil {
			t.Errorf("round %d: %v", round, err)
			continue
		}
		if rec := v.Info().Recovery; len(rec.Aside) > 0 || rec.Damaged > 0 {
			t.Errorf("round %d: %+v", round, rec)
		}
		r, err := v.Verify()
		if err != nil || len(r.Damage) > 0 {
			t.Errorf("round %d: %+v, %v", round, r, err)
		}
		last := uint64(0)
		err = v.Records(Select{}, func(rec *Record) error {
			if rec.Kind != "message" {
				return nil
			}
			if rec.Seq <= last {
				t.Errorf("round %d: %d after %d", round, rec.Seq, last)
			}
			last = rec.Seq
			return nil
		})
		if err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		v.Segments()
		recycled += v.Recycled
	}
	close(stop)
	<-stopped
	closeJournal(t, j)
	t.Logf("%d segments were recycled while they were read", recycled)
}

// damagedJournal has a reader with total pending messages.
func damagedJournal(t testing.TB, total int) (dir string) {
	dir = t.TempDir()
	j := open(t, dir, smallSegments)
	r := reader(t, j, "a")
	for n := 0; n < total; n += 10 {
		publish(t, j, n, n+10, r)
	}
	closeJournal(t, j)
	return dir
}

func TestVerifyAndRepair(t *testing.T) {
	const total = 4000
	for name, damage := range map[string]struct {
		do      func(t *testing.T, dir string)
		places  int // of damage
		missing int // messages; some if -1
		what    string
	}{
		"none": {func(*testing.T, string) {}, 0, 0, ""},
		"records": {func(t *testing.T, dir string) {
			n := neighbours(t, dir)
			flipMessages(t, dir, n, n+1, 100, 3333)
		}, 3, 4, "checksum"},
		"names of readers": {func(t *testing.T, dir string) { flip(t, segmentFiles(t, dir)[1], headerSize+3) }, 1, 0, "checksum"},
		"one header":       {func(t *testing.T, dir string) { flip(t, segmentFiles(t, dir)[0], 20) }, 1, 0, "header"},
		"both headers":     {func(t *testing.T, dir string) { flip(t, segmentFiles(t, dir)[0], 20, headerCopy+20) }, 2, 0, "header"},
		"the first of a file": {func(t *testing.T, dir string) {
			flipMessages(t, dir, int(inspected(t, dir).Segments()[1].Base)-1)
		}, 1, 1, "checksum"},
		"a snapshot": {func(t *testing.T, dir string) {
			names, _ := filepath.Glob(filepath.Join(dir, "*"+snapSuffix))
			flip(t, names[len(names)-1], 40)
		}, 1, 0, "snapshot"},
		"a write that never came": {func(t *testing.T, dir string) {
			f, err := os.OpenFile(segmentFiles(t, dir)[0], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(make([]byte, 2048), headerSize+2048); err != nil {
				t.Fatal(err)
			}
		}, 1, -1, whatMissing},
		"a file": {func(t *testing.T, dir string) {
			if err := os.Remove(segmentFiles(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
		}, 1, -1, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := damagedJournal(t, total)
			damage.do(t, dir)
			before := contents(t, dir)
			r := verified(t, dir)
			missing := 0
			for _, d := range r.Damage {
				if d.First > 0 {
					missing += int(d.Last - d.First + 1)
				}
				if !strings.Contains(d.What, damage.what) || d.File == "" {
					t.Errorf("damage: %+v, want %q", d, damage.what)
				}
			}
			if len(r.Damage) != damage.places || r.Damaged() != (damage.places > 0) || damage.missing >= 0 && missing != damage.missing {
				t.Fatalf("%d places, %d messages, want %d and %d: %+v", len(r.Damage), missing, damage.places, damage.missing, r.Damage)
			}
			there := waitingFor(t, dir, "a")
			if name != "a file" && len(there) != total-missing {
				t.Fatalf("%d of %d messages can be read", len(there), total)
			}
			if !maps.Equal(before, contents(t, dir)) {
				t.Fatal("verify has changed the files")
			}

			done, err := Repair(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if (len(done.Aside) > 0) != (damage.places > 0 && name != "a file") {
				t.Errorf("set aside: %v", done.Aside)
			}
			after := contents(t, dir)
			for file, aside := range done.Aside {
				if after[aside] != before[file] {
					t.Errorf("%s was not kept as %s", file, aside)
				}
			}
			if r := verified(t, dir); r.Damaged() {
				t.Errorf("after repair: %+v", r.Damage)
			}
			if got := waitingFor(t, dir, "a"); !slices.Equal(got, there) {
				t.Errorf("after repair %d messages can be read, before %d", len(got), len(there))
			}
			if done, err = Repair(dir, nil); err != nil || len(done.Aside) > 0 {
				t.Errorf("repaired again: %+v, %v", done, err)
			}
			checkLosses(t, dir, there, total)
		})
	}
}

// checkLosses opens a journal: its reader gets what is there, and the rest is counted.
func checkLosses(t *testing.T, dir string, there []int, total int) {
	j := open(t, dir, smallSegments)
	defer closeJournal(t, j)
	a := reader(t, j, "a")
	a.Attach()
	for _, n := range there {
		d, ok, err := a.TryNext()
		if !ok || err != nil || number(d.Message) != n {
			t.Fatalf("got %v, %v, %v, want message %d", d, ok, err, n)
		}
		a.Ack(d.Seq)
	}
	none(t, a)
	publish(t, j, total, total+1, a) // losses ride along
	expect(t, a, total, total+1, true)
	var lost uint64
	for _, l := range j.Losses() {
		lost += l.Count
	}
	if int(lost) != total-len(there) || a.Depth() != 0 {
		t.Errorf("%d of %d are there, lost %d, depth %d: %+v", len(there), total, lost, a.Depth(), j.Losses())
	}
}

// TestVerifyBesideWriter finds what is damaged in a journal that is open.
func TestVerifyBesideWriter(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, smallSegments)
	defer closeJournal(t, j)
	publish(t, j, 0, 5000, reader(t, j, "a"))
	flipMessages(t, dir, 1234)
	r := verified(t, dir)
	if len(r.Damage) != 1 || r.Damage[0].First != 1235 || r.Damage[0].Last != 1235 || r.Damage[0].Bytes < 100 {
		t.Fatalf("%+v", r.Damage)
	}
}

// TestTornEnd cuts the last batch off in the middle of a sector. What is left of it is neither damage nor
// a loss: not now, and not when later segments prove that all before them was on disk.
func TestTornEnd(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	publish(t, j, 0, 100, reader(t, j, "a"))
	housekept(t, j, func() bool { // the first checkpoint knows nothing of the last batch
		j.mu.Lock()
		defer j.mu.Unlock()
		return len(j.checkpoints.kept) > 0 && !j.checkpoints.due(j.segments, 1)
	})
	publish(t, j, 100, 110, reader(t, j, "a"))
	torn := crash(t, dir)
	closeJournal(t, j)
	flipMessages(t, torn, 109)
	for round := range 3 {
		if r := verified(t, torn); len(r.Damage) > 0 {
			t.Fatalf("round %d: %+v", round, r.Damage)
		}
		j := open(t, torn, nil)
		if rec := j.Recovery(); rec.Damaged > 0 || len(j.Losses()) > 0 {
			t.Fatalf("round %d: %+v, losses %+v", round, rec, j.Losses())
		}
		publish(t, j, 109+round, 110+round, reader(t, j, "a"))
		torn = crash(t, torn)
		closeJournal(t, j)
	}
	if got := waitingFor(t, torn, "a"); !slices.Equal(got, upTo(0, 112)) {
		t.Errorf("%d messages are left: %v", len(got), got)
	}
}

// TestInspectMerged looks at segments that hold what was left of older ones: most numbers are missing
// there, and that is no damage.
func TestInspectMerged(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, func(o *Options) { o.MaxSize = smallestSize })
	alarms, all := reader(t, j, "alarms"), reader(t, j, "all")
	if err := alarms.SetPriority(MaxPriority); err != nil {
		t.Fatal(err)
	}
	const every, total = 100, 60_000
	var want []int
	for n := 0; n < total; n += every {
		publish(t, j, n, n+1, alarms, all)
		publish(t, j, n+1, n+every, all)
		want = append(want, n)
	}
	closeJournal(t, j)
	if got := waitingFor(t, dir, "alarms"); !slices.Equal(got, want) {
		t.Errorf("%d messages wait for alarms, want %d", len(got), len(want))
	}
	v := inspected(t, dir)
	compacted := slices.ContainsFunc(v.j.segments, func(s *segment) bool { return s.compacted })
	if r := verified(t, dir); r.Damaged() || !compacted {
		t.Fatalf("compacted %v: %+v", compacted, r)
	}
	flipMessages(t, dir, 500)
	r := verified(t, dir)
	if len(r.Damage) != 1 || r.Damage[0].First > 501 || r.Damage[0].Last < 501 || !maps.Equal(r.Damage[0].Affected, map[string]uint64{"alarms": 1}) {
		t.Fatalf("%+v", r.Damage)
	}
	if _, err := Repair(dir, nil); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); r.Damaged() || len(waitingFor(t, dir, "alarms")) != len(want)-1 {
		t.Errorf("%+v", r)
	}
}

// TestRepairTail damages what was written after the last checkpoint, and appends after the repair.
func TestRepairTail(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	r := reader(t, j, "a")
	for n := 0; n < 1000; n += 10 {
		publish(t, j, n, n+10, r)
	}
	copied := crash(t, dir)
	closeJournal(t, j)
	flipMessages(t, copied, 200, 700)
	there := waitingFor(t, copied, "a")
	done, err := Repair(copied, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(there) != 998 || len(done.New) != 2 {
		t.Fatalf("%d are there, losses %+v", len(there), done.New)
	}
	checkLosses(t, copied, there, 1000)
	if r := verified(t, copied); r.Damaged() {
		t.Errorf("%+v", r.Damage)
	}
}

func TestForget(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, smallSegments)
	a, b := reader(t, j, "a"), reader(t, j, "b")
	publish(t, j, 0, 5000, b)
	publish(t, j, 5000, 6000, a, b)
	if _, err := Forget(dir, "b"); err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("forgotten in a journal that is open: %v", err)
	}
	closeJournal(t, j)
	if _, err := Forget(dir, "c"); err == nil || !strings.Contains(err.Error(), "a, b") {
		t.Fatalf("got %v, want the names that there are", err)
	}
	before := len(segmentFiles(t, dir))
	f, err := Forget(dir, "b")
	if err != nil || f.Depth != 6000 || f.Freed == 0 || len(segmentFiles(t, dir)) >= before {
		t.Fatalf("%+v, %v, %d files of %d", f, err, len(segmentFiles(t, dir)), before)
	}
	if r := verified(t, dir); r.Damaged() {
		t.Errorf("%+v", r.Damage)
	}
	j = open(t, dir, smallSegments)
	defer closeJournal(t, j)
	if infos := j.Readers(); len(infos) != 1 || infos[0].Depth != 1000 || len(j.Losses()) != 0 {
		t.Fatalf("readers %+v, losses %+v", infos, j.Losses())
	}
	a = reader(t, j, "a")
	a.Attach()
	expect(t, a, 5000, 6000, true)
	none(t, a)
}
