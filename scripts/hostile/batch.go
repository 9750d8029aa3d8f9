package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// batch is what runs against one data directory.
type batch struct {
	*trial
	favourite move
	g         *gateway
	up        *upstream
	v         *victims
	first     int64
	idle      counters
	linger    []*attack
	read      int64 // of the log
	stopped   bool
}

// attack is one run.
func (b *batch) attack(seed int64) (names []string) {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	how := takes
	switch r.IntN(6) {
	case 0:
		how = stalls
	case 1:
		how = refuses
	}
	b.up.behave(how)
	names = append(names, [...]string{"upstream takes", "upstream stalls", "upstream refuses"}[how])
	for _, reader := range b.v.readers {
		if r.IntN(5) == 0 {
			names = append(names, reader.login.id+" away")
			reader.leave(r.IntN(2) == 0)
		}
	}
	before, err := b.g.metrics(patience)
	if err != nil {
		b.judge.problem("metrics: %v", err)
	}
	b.g.peak.Store(0)
	var attacks []*attack
	var wait sync.WaitGroup
	for range 1 + r.IntN(4) {
		m := b.chosen[r.IntN(len(b.chosen))]
		if r.IntN(3) == 0 {
			m = b.favourite // what adds up needs to be done again and again
		}
		names = append(names, m.name)
		d := 400 * time.Millisecond
		if m.big {
			d *= 3
		}
		a := &attack{Rand: rand.New(rand.NewPCG(r.Uint64(), 1)), g: b.g, judge: b.judge, name: m.name, until: time.Now().Add(d)}
		attacks = append(attacks, a)
		wait.Go(func() { m.do(a) })
	}
	time.Sleep(100 * time.Millisecond)
	b.v.newcomer()
	for _, path := range []string{"/healthz", "/readyz"} {
		begun := time.Now()
		if _, err := b.g.get(path, patience); err != nil {
			b.judge.problem("%v", err)
		}
		b.judge.took(path, time.Since(begun))
	}
	wait.Wait()
	for _, a := range attacks {
		if a.linger {
			b.linger = append(b.linger, a)
		} else {
			a.close()
		}
	}
	for len(b.linger) > 4 {
		b.linger[0].close()
		b.linger = b.linger[1:]
	}
	for _, reader := range b.v.readers {
		reader.back()
	}
	b.settleHere(patience)
	after, err := b.g.metrics(patience)
	if err != nil {
		b.judge.problem("metrics: %v", err)
	} else if before != nil {
		b.judge.counted(before, after)
	}
	memory, disk := b.g.peak.Load(), b.g.size()
	b.peak, b.disk = max(b.peak, memory), max(b.disk, disk)
	if memory > b.memory<<20 {
		b.judge.problem("resident memory was %d MiB, more than %d", memory>>20, b.memory)
	}
	if disk > 80<<20 {
		b.judge.problem("the data directory has %d MiB, with max_size: 64MiB", disk>>20)
	}
	from := b.read
	var longest, lines int
	b.read, longest, lines = b.g.logged(from)
	if grown := b.read - from; longest > 8<<10 || grown > 256<<10 {
		b.judge.problem("the log has grown by %d bytes in %d lines, the longest of %d bytes", grown, lines, longest)
	}
	if b.verbose {
		fmt.Printf("seed %d: %s; %d MiB, disk %d MiB, log %d lines\n", seed, strings.Join(names, ", "), memory>>20, disk>>20, lines)
	}
	return names
}

// settleHere waits for what is owed to local subscribers.
func (b *batch) settleHere(most time.Duration) {
	for _, a := range b.v.accounts {
		if !strings.HasSuffix(a.name, "upstream") && !strings.HasPrefix(a.name, "down") {
			b.settleAccount(a, most)
		}
	}
}

func (b *batch) settleAccount(a *account, most time.Duration) {
	if m := a.settle(most); len(m) > 0 {
		b.judge.problem("%s: %d acknowledged messages have not come within %v: %s", a.name, len(m), most, ranges(m))
	}
	for _, p := range a.takeProblems() {
		b.judge.problem("%s", p)
	}
}

// settle waits for everything that is owed, upstream too.
func (b *batch) settle(most time.Duration) {
	b.up.behave(takes)
	begun := time.Now()
	for _, a := range b.v.accounts {
		b.settleAccount(a, max(most-time.Since(begun), time.Second))
	}
	b.judge.took("settling with the upstream", 0)
	b.judge.mu.Lock()
	b.judge.slowest["settling with the upstream"] = max(b.judge.slowest["settling with the upstream"], time.Since(begun))
	b.judge.mu.Unlock()
	for ; ; time.Sleep(10 * time.Millisecond) {
		holes := b.up.holes()
		if len(holes) == 0 {
			break
		}
		if time.Since(begun) > most {
			b.judge.problem("%d of the gateway's own readings have not come upstream: %s", len(holes), ranges(holes))
			break
		}
	}
}

// kill is SIGKILL in the middle of work, and the restart.
func (b *batch) kill() {
	if !b.g.alive() {
		b.judge.problem("the gateway has ended by itself: %s", tail(b.g.logFile()))
		return
	}
	b.v.quiet.Store(true)
	b.g.kill()
	took, err := b.g.start(30 * time.Second)
	if err != nil {
		b.judge.problem("restart after SIGKILL: %v: %s", err, tail(b.g.logFile()))
		return
	}
	b.restarts = append(b.restarts, took)
	if took > b.startup {
		b.judge.problem("the restart after SIGKILL took %v, more than %v", took, b.startup)
	}
	time.Sleep(50 * time.Millisecond) // connections that were cut are noticed
	b.v.quiet.Store(false)
	b.settle(30 * time.Second)
}

// stop sends all clients away and looks whether the gateway comes to rest.
func (b *batch) stop() {
	b.end()
	most := b.idle["go_goroutines"] + 20
	now := 0.0
	for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
		m, err := b.g.metrics(patience)
		if err != nil {
			b.judge.problem("metrics: %v", err)
			return
		}
		if now = m["go_goroutines"]; now <= most {
			return
		}
	}
	b.judge.problem("%g goroutines without a client, more than %g: some are stuck", now, most)
}

// end closes all connections.
func (b *batch) end() {
	if b.stopped {
		return
	}
	b.stopped = true
	for _, a := range b.linger {
		a.close()
	}
	b.v.end()
}

// fail prints what was wrong and how to see it again, and keeps what is left.
func (b *batch) fail(seed int64, names, problems []string) {
	b.failed++
	fmt.Printf("seed %d failed: %s\n", seed, strings.Join(names, ", "))
	for i, p := range problems {
		if i == 8 {
			fmt.Printf("  and %d more\n", len(problems)-i)
			break
		}
		fmt.Printf("  %s\n", p)
	}
	if b.g.alive() {
		if _, x, err := b.g.status(); err == nil && len(x.Journal.Losses) > 0 {
			fmt.Printf("  ledger: %+v\n", x.Journal.Losses[:min(len(x.Journal.Losses), 6)])
		} else if err != nil {
			fmt.Printf("  status: %v\n", err)
		}
	}
	more := ""
	if b.moves != "" {
		more = " -moves " + b.moves
	}
	fmt.Printf("  again: make hostile ARGS=\"-seed %d -runs %d -batch %d -restart %d%s\"\n", b.first, seed-b.first+1, b.batch, b.restart, more)
	for _, n := range slices.Compact(slices.Sorted(slices.Values(names))) {
		b.blamed[n]++
	}
	b.v.quiet.Store(true)
	b.g.dump()
	b.end()
	b.judge.take()
	if b.keep != "" {
		to := filepath.Join(b.keep, fmt.Sprintf("seed-%d", seed))
		os.Remove(filepath.Join(b.g.dir, "c.sock"))
		if err := os.CopyFS(to, os.DirFS(b.g.dir)); err != nil {
			fmt.Printf("  keep: %v\n", err)
		} else {
			fmt.Printf("  kept: %s\n", to)
		}
	}
}

// tail returns the end of a file.
func tail(name string) string {
	b, _ := os.ReadFile(name)
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}
