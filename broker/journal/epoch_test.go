package journal

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEpochs: what is done to a journal between two starts, and what the second one has to say of it.
func TestEpochs(t *testing.T) {
	glob := func(dir, pattern string) []string { n, _ := filepath.Glob(filepath.Join(dir, pattern)); return n }
	zero := func(t *testing.T, names []string) {
		for _, n := range names {
			info, err := os.Stat(n)
			if err == nil {
				err = os.WriteFile(n, make([]byte, info.Size()), 0o640)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name             string
		do               func(t *testing.T, data, old string)
		unknown, rewound bool
		counted          uint64
	}{
		{"nothing", func(*testing.T, string, string) {}, false, false, 0},
		{"older journal", func(t *testing.T, data, old string) {
			os.RemoveAll(filepath.Join(data, "journal"))
			if err := os.CopyFS(filepath.Join(data, "journal"), os.DirFS(filepath.Join(old, "journal"))); err != nil {
				t.Fatal(err)
			}
		}, true, true, 50},
		{"older journal and file beside it", func(t *testing.T, data, old string) {
			os.RemoveAll(data)
			if err := os.CopyFS(data, os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
		}, false, false, 0},
		{"all zero", func(t *testing.T, data, _ string) { zero(t, glob(data, "journal/*.s*")) }, true, false, 150},
		{"all removed", func(t *testing.T, data, _ string) {
			for _, n := range glob(data, "journal/*.s*") {
				os.Remove(n)
			}
		}, true, false, 150},
		{"segments zero beside snapshots", func(t *testing.T, data, _ string) { zero(t, glob(data, "journal/*.seg")) }, true, false, 150},
		{"file beside it removed", func(t *testing.T, data, _ string) { os.Remove(filepath.Join(data, startFile)) }, false, false, 0},
		{"file beside it zero", func(t *testing.T, data, _ string) { zero(t, []string{filepath.Join(data, startFile)}) }, false, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, old := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "old")
			dir := filepath.Join(data, "journal")
			set := func(o *Options) {
				o.Beside = &DirFS{data}
				withoutSync(o)
			}
			os.MkdirAll(dir, 0o750)
			var used []Epoch
			for from := 0; from < 150; from += 50 {
				if from == 100 {
					if err := os.CopyFS(old, os.DirFS(data)); err != nil {
						t.Fatal(err)
					}
				}
				j := open(t, dir, set)
				publish(t, j, from, from+50, reader(t, j, "a"))
				used = append(used, j.Epoch())
				if got := j.EpochOf(1); got != used[0] {
					t.Errorf("epoch of message 1: got %v, want %v", got, used[0])
				}
				closeJournal(t, j)
			}
			c.do(t, data, old)
			for again := range 2 { // what was lost is still said at the next start, and nothing more
				j := open(t, dir, set)
				if rec := j.Recovery(); again == 0 && ((len(rec.Unknown) > 0) != c.unknown || rec.Rewound != c.rewound) || again == 1 && len(rec.Unknown) > 0 {
					t.Errorf("start %d: got %+v, want unknown %v, rewound %v", again, rec, c.unknown, c.rewound)
				}
				if slices.Contains(used, j.Epoch()) || j.EpochOf(j.Stats().NextSeq) != j.Epoch() {
					t.Errorf("epoch %v was used before or is not that of new messages", j.Epoch())
				}
				used = append(used, j.Epoch())
				switch i := j.Interruption(); {
				case !c.unknown:
					if i != (Interruption{}) {
						t.Errorf("interrupted: %+v, want none", i)
					}
				case i.Epoch != used[3].Number || i.First != 151 || i.Time.Earlier || j.Waited(i.Time) > time.Minute:
					t.Errorf("start %d: interrupted %+v, want by %v", again, i, used[3])
				}
				var counted uint64
				said := false
				for _, l := range j.Losses() {
					counted += l.Count
					said = said || l.Reason == ReasonUnknown
					if c.unknown && l.ID>>32 != used[3].Number {
						t.Errorf("start %d: loss %+v could have the ID of one that is forgotten; found by %v", again, l, used[3])
					}
				}
				if said != c.unknown || counted != c.counted {
					t.Errorf("start %d: losses %+v, want unknown %v and %d counted", again, j.Losses(), c.unknown, c.counted)
				}
				r := reader(t, j, "a")
				if depth := r.Depth(); strings.Contains(c.name, "zero") && !strings.HasPrefix(c.name, "file") && depth != 0 {
					t.Errorf("%d messages are said to wait, want 0", depth)
				}
				closeJournal(t, j)
			}
		})
	}
}
