package main

import (
	"fmt"
	"io"
	"slices"
)

// Report is everything that one run has measured.
type Report struct {
	Results []Result
	Backlog []Backlog
	Hourly  []Hourly
	Checks  []Check
}

// Check compares holdfast with a target that the project has set itself.
type Check struct {
	On       string
	Target   string
	Measured string
	Met      bool
}

func (r *Report) write(w io.Writer) {
	if len(r.Results) > 0 {
		fmt.Fprint(w, "| on | queue | phase | in flight | acks/s | of raw | per commit | flash B/B | flushes/commit | CPU µs | allocs | heap MiB |\n"+
			"|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	}
	for _, m := range r.Results {
		ofRaw := ""
		if m.Raw > 0 {
			ofRaw = percent(m.ofRaw())
		}
		fmt.Fprintf(w, "| %s | %s | %s | %d | %.0f | %s | %.1f | %.2f | %.3f | %.2f | %.2f | %.1f |\n",
			m.Target, m.Queue, m.Phase, m.InFlight, m.Acks, ofRaw, m.PerCommit, m.FlashRatio, m.Flushes, m.CPU, m.Allocs, m.Heap)
	}
	if len(r.Backlog) > 0 {
		fmt.Fprint(w, "\n| on | queue | backlog MB | open ms | heap open MiB | heap drain MiB | heap fill MiB | drain MB/s | msg/s | read MB/s |\n"+
			"|---|---|---|---|---|---|---|---|---|---|\n")
	}
	for _, b := range r.Backlog {
		fmt.Fprintf(w, "| %s | %s | %d | %.1f | %.1f | %.1f | %.1f | %.0f | %.0f | %.0f |\n",
			b.Target, b.Queue, b.Bytes/1e6, b.OpenMS, b.OpenHeap, b.DrainHeap, b.FillHeap, b.Drain, b.Messages, b.Read)
	}
	if len(r.Hourly) > 0 {
		fmt.Fprint(w, "\n| commit_every | space | device kB/h | device, idle kB/h | written by the journal kB/h | commits/h | flushes/h |\n"+
			"|---|---|---|---|---|---|---|\n")
	}
	for _, h := range r.Hourly {
		fmt.Fprintf(w, "| %v | %s | %.0f | %.0f | %.0f | %.0f | %.0f |\n",
			h.CommitEvery, h.Space, h.Device/1e3, h.Idle/1e3, h.Journal/1e3, h.Commits, h.Flushes)
	}
	if len(r.Checks) > 0 {
		fmt.Fprint(w, "\n| on | target | measured | |\n|---|---|---|---|\n")
	}
	for _, c := range r.Checks {
		verdict := "met"
		if !c.Met {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", c.On, c.Target, c.Measured, verdict)
	}
}

func percent(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) }

func (m *Result) ofRaw() float64 { return m.Acks / (m.Raw * float64(m.InFlight)) }

// flushesPer is how many flushes a message costs: what counts for a card, however large commits are.
func (m *Result) flushesPer() float64 { return m.Flushes / m.PerCommit }

// check fills in Checks from the rest.
func (r *Report) check() {
	add := func(on string, met bool, measured, target string, args ...any) {
		r.Checks = append(r.Checks, Check{on, fmt.Sprintf(target, args...), measured, met})
	}
	for _, m := range r.Results {
		if m.Queue != ours {
			continue
		}
		on := fmt.Sprintf("%s, %s, %d", m.Target, m.Phase, m.InFlight)
		if want := rawWanted(m.InFlight, m.Phase); want > 0 {
			add(on, m.ofRaw() >= want, percent(m.ofRaw()), "acks/s at least %s of N x R(batch)", percent(want))
		}
		if m.Phase == "steady" {
			add(on, m.Flushes <= 1.01, fmt.Sprintf("%.3f", m.Flushes), "at most 1.01 flushes a commit")
		}
		got, most := m.FlashRatio*payloadSize*m.PerCommit, 1.10*(payloadSize+16)*m.PerCommit+block
		add(on, got <= most, fmt.Sprintf("%.0f", got), "flash bytes a commit at most 1.10 x (payload + 16) and one block: %.0f", most)
		if m.InFlight == 320 {
			add(on, m.CPU <= 5, fmt.Sprintf("%.2f", m.CPU), "at most 5 µs of CPU a message")
			add(on, m.Allocs <= 0.2, fmt.Sprintf("%.2f", m.Allocs), "at most 0.2 allocations a message")
		}
		add(on, m.Heap <= 16, fmt.Sprintf("%.1f", m.Heap), "heap at most 16 MiB")
		r.checkPeers(on, &m)
	}
	for _, b := range r.Backlog {
		if b.Queue != ours {
			continue
		}
		on := fmt.Sprintf("%s, %d MB", b.Target, b.Bytes/1e6)
		heap := max(b.FillHeap, b.OpenHeap, b.DrainHeap)
		add(on, heap <= 16, fmt.Sprintf("%.1f", heap), "heap at most 16 MiB at any backlog")
		add(on, b.OpenMS <= 50, fmt.Sprintf("%.1f", b.OpenMS), "open in at most 50 ms")
		add(on, b.Drain >= min(150, 0.9*b.Read), fmt.Sprintf("%.0f", b.Drain), "drain at least 150 MB/s, or 90 %% of what the disk reads: %.0f", b.Read)
	}
	for _, h := range r.Hourly {
		add("loop, "+h.Space, h.Journal <= 1e6, fmt.Sprintf("%.0f", h.Journal/1e3), "one reading a second, commit_every %v: at most 1000 kB/h from the journal", h.CommitEvery)
	}
}

func rawWanted(n int, phase string) float64 {
	switch {
	case n == 1:
		return 0.9
	case n != 100 && n != 320:
		return 0
	case phase == "growing":
		return 0.55
	}
	return 0.8
}

// checkPeers compares with the best peer of the same run in each respect.
func (r *Report) checkPeers(on string, m *Result) {
	peers := slices.DeleteFunc(slices.Clone(r.Results), func(p Result) bool {
		return p.Queue == ours || p.Target != m.Target || p.Phase != m.Phase || p.InFlight != m.InFlight
	})
	if len(peers) == 0 {
		return
	}
	for _, c := range []struct {
		what   string
		format string
		less   bool // is better
		of     func(*Result) float64
	}{
		{"acks/s", "%.0f", false, func(m *Result) float64 { return m.Acks }},
		{"flash B/B", "%.2f", true, func(m *Result) float64 { return m.FlashRatio }},
		{"flushes a message", "%.4f", true, (*Result).flushesPer},
	} {
		best := peers[0]
		for _, p := range peers[1:] {
			if (c.of(&p) < c.of(&best)) == c.less {
				best = p
			}
		}
		got, other := c.of(m), c.of(&best)
		r.Checks = append(r.Checks, Check{
			on, fmt.Sprintf("ahead in "+c.what+" of the best peer, %s: "+c.format, best.Queue, other),
			fmt.Sprintf(c.format, got), got != other && (got < other) == c.less,
		})
	}
}
