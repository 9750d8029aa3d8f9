package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"
)

var kinds = []string{ours, autosave, safest}

type report struct {
	w        *tabwriter.Writer
	verdicts []string
	broken   []error // what holdfast promises and has not kept
}

func (r *report) row(format string, args ...any) {
	fmt.Fprintf(r.w, format+"\n", args...)
	r.w.Flush()
}

// most and least note a target.
func (r *report) most(what string, got, want float64, unit string) {
	r.verdict(got <= want, "%s: %.2f %s, target at most %g", what, got, unit, want)
}

func (r *report) least(what string, got, want float64, unit string) {
	r.verdict(got >= want, "%s: %.2f %s, target at least %g", what, got, unit, want)
}

// kept notes whether nothing of ours was lost or out of order, and no more came twice than was in flight at a cut.
func (r *report) kept(what string, a account, cuts int) {
	before := len(r.verdicts)
	met := a.lost == 0 && a.disorder == 0 && a.acknowledged > 0 && a.duplicates <= uint64(cuts*window)
	r.verdict(met, "%s: %d acknowledged, %d lost, %d disordered, targets 0; %d twice, target at most %d", what, a.acknowledged, a.lost, a.disorder, a.duplicates, cuts*window)
	if !met {
		r.broken = append(r.broken, errors.New(r.verdicts[before]))
	}
}

func (r *report) verdict(met bool, format string, args ...any) {
	word := "MISSED  "
	if met {
		word = "met     "
	}
	r.verdicts = append(r.verdicts, word+fmt.Sprintf(format, args...))
}

func compareThroughput(o *options, r *report) error {
	r.row("publishers\tgateway\tmessages/s\tµs CPU\tlost\tdisordered\tduplicates")
	for _, publishers := range []int{1, 20} {
		rates, costs := map[string]float64{}, map[string]float64{}
		for _, kind := range kinds {
			rate, cpu, a, err := throughput(o, kind, publishers)
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			rates[kind], costs[kind] = rate, float64(cpu)/1000
			r.row("%d\t%s\t%.0f\t%.1f\t%d\t%d\t%d", publishers, kind, rate, costs[kind], a.lost, a.disorder, a.duplicates)
			if kind == ours {
				r.kept(fmt.Sprintf("%d publishers", publishers), a, 0)
			}
		}
		what := fmt.Sprintf("%d publishers, throughput to Mosquitto's", publishers)
		r.least(what+" at autosave 1 s", rates[ours]/rates[autosave], 1, "x")
		r.least(what+" safest", rates[ours]/rates[safest], 10, "x")
		r.most(fmt.Sprintf("%d publishers, CPU a message to Mosquitto's", publishers), costs[ours]/costs[autosave], 1, "x")
	}
	return nil
}

func compareLatency(o *options, r *report) error {
	r.row("100 messages/s\tgateway\tp50\tp99")
	for _, kind := range kinds {
		p50, p99, err := latency(o, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		r.row("\t%s\t%v\t%v", kind, p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond))
	}
	return nil
}

func compareBacklogs(o *options, r *report) error {
	r.row("backlog\tgateway\tingest/s\tRSS MiB\trestart\tRSS MiB\tdrain/s\tlost\tdisordered\tduplicates")
	one := func(kind string, n int) (b backlog, err error) {
		if b, err = measureBacklog(o, kind, n); err != nil {
			return b, fmt.Errorf("%s, %d: %w", kind, n, err)
		}
		r.row("%d\t%s\t%.0f\t%.1f\t%v\t%.1f\t%.0f\t%d\t%d\t%d", n, kind, b.ingest, b.rss, b.restart.Round(time.Millisecond), b.again, b.drain,
			b.account.lost, b.account.disorder, b.account.duplicates)
		return b, nil
	}
	own, err := one(ours, o.backlog)
	if err != nil {
		return err
	}
	theirs, err := one(autosave, o.backlog)
	if err != nil {
		return err
	}
	// It writes its whole database at every change: a hundredth takes long enough.
	if _, err := one(safest, max(1000, o.backlog/100)); err != nil {
		return err
	}
	r.least("drain to Mosquitto's", own.drain/theirs.drain, 1.5, "x")
	backlogs := map[int]backlog{o.backlog: own}
	if o.deep > 0 {
		if backlogs[o.deep], err = one(ours, o.deep); err != nil {
			return err
		}
		r.most("RSS of the deep backlog to that of the other", backlogs[o.deep].rss/own.rss, 1.1, "x")
	}
	for n, b := range backlogs {
		what := fmt.Sprintf("with %d messages waiting, ", n)
		r.most(what+"RSS", max(b.rss, b.again), 32, "MiB")
		r.most(what+"restart", b.restart.Seconds(), 0.5, "s")
		r.kept(what+"drained", b.account, 0)
	}
	return nil
}

func compareFlaps(o *options, r *report) error {
	return compareAccounts(o, r, "ten cuts of the link", 10, flaps)
}

func compareKills(o *options, r *report) error {
	return compareAccounts(o, r, "six SIGKILLs", 6, kills)
}

func compareAccounts(o *options, r *report, what string, cuts int, measure func(*options, string) (account, error)) error {
	r.row("%s\tgateway\tacknowledged\tlost\tdisordered\tduplicates", what)
	for _, kind := range kinds {
		a, err := measure(o, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		r.row("\t%s\t%d\t%d\t%d\t%d", kind, a.acknowledged, a.lost, a.disorder, a.duplicates)
		if kind == ours {
			r.kept(what, a, cuts)
		}
	}
	return nil
}
