package journal

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/broker"
)

// numbered has every message of message() carry its number.
func numbered(o *Options) {
	o.Number = func(m *broker.Message) (uint64, bool) {
		if len(m.Payload) != 100 {
			return 0, false
		}
		return binary.LittleEndian.Uint64(m.Payload), true
	}
}

// lossesOf returns what a reader has lost, without times and numbers of records.
func lossesOf(j *Journal, name string) (list []string) {
	for _, l := range j.Losses() {
		if l.Reader == name {
			list = append(list, fmt.Sprintf("%d-%d %d %s %d-%d %d", l.First, l.Last, l.Count, l.Reason, l.Numbers.First, l.Numbers.Last, l.Numbers.Count))
		}
	}
	return list
}

// TestDrop: what a consumer drops is settled and named, in ranges where nothing else of its was in
// between, survives a crash together with its names, and the rest is handed out again.
func TestDrop(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, numbered)
	r, other := reader(t, j, "bridge/cloud"), reader(t, j, "other")
	for n := range 20 { // every second message is the other's
		publish(t, j, 2*n, 2*n+1, r)
		publish(t, j, 2*n+1, 2*n+2, other)
	}
	r.Attach()
	var d []Delivery
	for range 16 {
		next, ok, err := r.TryNext()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		d = append(d, next)
	}
	for i := range d { // 0 1 2 expired, 3 acknowledged, 4 5 refused, 6 waits, 7 refused, 8 refused twice
		switch i {
		case 0, 1, 2:
			r.Drop(&d[i], ReasonExpired)
		case 3:
			r.Ack(d[i].Seq)
		case 4, 5, 7:
			r.Drop(&d[i], ReasonRefused)
		case 8:
			r.Drop(&d[i], ReasonRefused)
			r.Drop(&d[i], ReasonRefused)
			r.Ack(d[i].Seq)
		}
	}
	if got := r.Depth(); got != 12 {
		t.Errorf("depth: got %d, want 12", got)
	}
	publish(t, j, 100, 101, other) // a commit, with which the losses go
	want := []string{
		"1-5 3 expired 0-4 3", "9-11 2 refused 8-10 2", "15-17 2 refused 14-16 2",
	}
	check := func(j *Journal) {
		t.Helper()
		if got := lossesOf(j, "bridge/cloud"); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		i := slices.IndexFunc(j.Readers(), func(i ReaderInfo) bool { return i.Name == "bridge/cloud" })
		if lost := fmt.Sprint(j.Readers()[i].Lost); lost != "map[expired:3 refused:4]" {
			t.Errorf("totals: got %s", lost)
		}
		for i, l := range j.Losses() {
			if l.ID != uint64(i+1) || l.News != l.ID {
				t.Errorf("range %d has the numbers %d and %d", i, l.ID, l.News)
			}
		}
	}
	check(j)
	crashed := crash(t, dir)
	closeJournal(t, j)
	for _, d := range []string{crashed, dir, crashed} { // from the log, and from a checkpoint
		j = open(t, d, numbered)
		check(j)
		r = reader(t, j, "bridge/cloud")
		r.Attach()
		for _, n := range []int{12, 18, 20, 22} {
			d, ok, err := r.TryNext()
			if !ok || err != nil || number(d.Message) != n || !d.Resend {
				t.Fatalf("got %d, resend %v, %v, %v, want %d again", number(d.Message), d.Resend, ok, err, n)
			}
		}
		closeJournal(t, j)
	}
}

// TestDropsShareRecords: a storm of drops becomes few records.
func TestDropsShareRecords(t *testing.T) {
	j := open(t, t.TempDir(), numbered)
	r := reader(t, j, "a")
	const n = 20_000
	publish(t, j, 0, n, r)
	before := j.Stats().Commits
	r.Attach()
	for range n {
		d, ok, err := r.TryNext()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		r.Drop(&d, ReasonExpired)
	}
	publish(t, j, n, n+1, r)
	if got := lossesOf(j, "a"); len(got) != 1 || got[0] != "1-20000 20000 expired 0-19999 20000" {
		t.Errorf("got %q", got)
	}
	if commits := j.Stats().Commits - before; commits > 100 {
		t.Errorf("%d commits for %d drops", commits, n)
	}
	closeJournal(t, j)
}

// TestLedgerAtItsLimit: more ranges than are kept become coarser, and what they count stays.
func TestLedgerAtItsLimit(t *testing.T) {
	j := newView(nil)
	r := newReader(j, "a", 1, 1)
	j.addLoss(nil, Loss{Reader: "b", First: 1, Last: 7, Count: 7, Reason: ReasonSize, Numbers: Numbers{1, 7, 7}}) // the only one of its kind
	const n = 5000
	for i := range uint64(n) {
		reason := []string{ReasonExpired, ReasonRefused, ReasonExpired, ReasonExpired}[i%4]
		j.addLoss(r, Loss{Reader: "a", First: 10 * i, Last: 10*i + 2, Count: 2, Reason: reason, Numbers: Numbers{i, i, 1}})
	}
	if first := j.Losses()[0]; first.Reader != "b" || first.Count != 7 {
		t.Errorf("got %+v, want what b has lost", first)
	}
	var count, numbers, news uint64
	for _, l := range j.Losses()[1:] {
		count, numbers, news = count+l.Count, numbers+l.Numbers.Count, max(news, l.News)
	}
	if len(j.Losses()) > maxLosses || count != 2*n || numbers != n || news != n+1 {
		t.Errorf("%d ranges, %d lost, %d numbers, newest %d", len(j.Losses()), count, numbers, news)
	}
	if r.reg.lost[ReasonExpired]+r.reg.lost[ReasonRefused] != 2*n {
		t.Errorf("totals %v", r.reg.lost)
	}
}

// TestRenamedLosses: what a reader has lost goes with it, from the log and from the checkpoint.
func TestRenamedLosses(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, numbered)
	r := reader(t, j, "old")
	publish(t, j, 0, 3, r)
	r.Attach()
	d, _, _ := r.TryNext()
	r.Drop(&d, ReasonRefused)
	publish(t, j, 3, 4, r)
	if ok, err := j.RenameReader("old", "new"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	publish(t, j, 4, 5, r)
	for range 3 {
		if got := lossesOf(j, "new"); len(got) != 1 {
			t.Errorf("got %+v", j.Losses())
		}
		next := crash(t, dir)
		closeJournal(t, j)
		dir = next
		j = open(t, dir, numbered)
	}
	closeJournal(t, j)
}

// TestLedgerIsExact loses messages of one reader in every way that there is, with another's in between, and
// crashes. What the reader then gets and what the ledger names are together what it was owed, each once.
func TestLedgerIsExact(t *testing.T) {
	clock := &wallClock{}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock.set(now, true)
	options := func(o *Options) {
		o.MaxSize, o.SegmentSize, o.MaxAge, o.Clock = 8*smallestPart, smallestPart, 24*time.Hour, clock
		numbered(o)
		withoutSync(o)
	}
	dir := t.TempDir()
	j := open(t, dir, options)
	r, other := reader(t, j, "bridge/cloud"), reader(t, j, "other")
	next := 0
	add := func(n int) {
		for range n / 500 {
			publish(t, j, next, next+500, r)
			publish(t, j, 1_000_000+next, 1_000_000+next+50, other) // not the reader's
			next += 500
		}
	}
	delivered := map[uint64]bool{}
	restart := func() {
		t.Helper()
		crashed := crash(t, dir)
		closeJournal(t, j)
		dir = crashed
		j = open(t, dir, options)
		r, other = reader(t, j, "bridge/cloud"), reader(t, j, "other")
	}
	take := func(n int, reasons ...string) { // and drops every third and fourth for these reasons in turn
		t.Helper()
		r.Attach()
		for i := range n {
			d, ok, err := r.TryNext()
			if !ok || err != nil {
				t.Fatalf("message %d of %d: %v, %v", i, n, ok, err)
			}
			if len(reasons) > 0 && i%7 >= 5 {
				r.Drop(&d, reasons[i/7%len(reasons)])
				continue
			}
			if r.Ack(d.Seq) { // otherwise it was given up meanwhile
				delivered[uint64(number(d.Message))] = true
			}
		}
		r.Detach()
		publishState(t, j) // with which acknowledgements and losses go to disk
	}
	lost := func() map[string]uint64 {
		i := slices.IndexFunc(j.Readers(), func(i ReaderInfo) bool { return i.Name == "bridge/cloud" })
		return j.Readers()[i].Lost
	}
	add(3000)
	take(1500, ReasonRefused, ReasonExpired)
	restart()
	add(20_000) // more than there is room for
	housekept(t, j, func() bool { return lost()[ReasonSize] > 0 })
	take(700, ReasonExpired)
	restart()
	r.SetLimit(2 * smallestPart)
	housekept(t, j, func() bool { return lost()[ReasonBacklog] > 0 })
	restart()
	clock.pass(now.Add(25*time.Hour), true)
	add(500)
	clock.pass(now.Add(30*time.Hour), true)
	housekept(t, j, func() bool { return lost()[ReasonAge] > 0 })
	restart()
	housekeep(t, j)
	take(int(r.Depth()))

	var total uint64
	ledger := map[string]uint64{}
	named := map[uint64]bool{}
	for _, l := range j.Losses() {
		if l.Reader != "bridge/cloud" {
			continue
		}
		total += l.Count
		ledger[l.Reason] += l.Count
		if l.Numbers.Count != l.Count || l.Numbers.Last-l.Numbers.First+1 < l.Count {
			t.Errorf("numbers of %+v", l)
		}
		missing := uint64(0)
		for n := l.Numbers.First; n <= l.Numbers.Last; n++ {
			if !delivered[n] && !named[n] {
				missing, named[n] = missing+1, true
			}
		}
		if missing != l.Count {
			t.Errorf("%d are missing, not named before, of %+v", missing, l)
		}
	}
	if len(delivered)+len(named) != next || total != uint64(len(named)) {
		t.Errorf("%d delivered, %d named, %d counted, of %d", len(delivered), len(named), total, next)
	}
	for _, reason := range []string{ReasonRefused, ReasonExpired, ReasonSize, ReasonBacklog, ReasonAge} {
		if ledger[reason] == 0 || ledger[reason] != lost()[reason] {
			t.Errorf("%s: %d in ranges, %d in all", reason, ledger[reason], lost()[reason])
		}
	}
	t.Logf("%d delivered, lost %v in %d ranges", len(delivered), lost(), len(j.Losses()))
	closeJournal(t, j)
}

// TestLedgerSince: a journal that was made while the clock was wrong is as old as it is once the clock is right, also
// after a restart.
func TestLedgerSince(t *testing.T) {
	made := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, off := range []time.Duration{0, time.Hour, -time.Hour, 40 * 24 * time.Hour, -56 * 365 * 24 * time.Hour} {
		clock, dir := &wallClock{}, t.TempDir()
		clock.set(made.Add(off), false)
		set := func(o *Options) { o.Clock = clock }
		j := open(t, dir, set)
		publishState(t, j)
		clock.pass(made.Add(off+time.Hour), false)
		clock.set(made.Add(time.Hour), true)
		for range 2 {
			if since := j.Stats().Ledger.Since; !since.Equal(made) {
				t.Errorf("made with the clock %v off: got %v, want %v", off, since, made)
			}
			closeJournal(t, j)
			j = open(t, dir, set)
		}
		closeJournal(t, j)
	}
}
