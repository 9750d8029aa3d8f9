// Package torture proves on the user's own machine and card what Holdfast promises: it runs the program as
// a child with simulated sensors and publishers, kills it, cuts its link, takes its upstream away and fills
// its disk, and compares by sequence number what was acknowledged with what arrived.
//
// It promises that its verdict does not rest on counters of the gateway: what a publisher got an
// acknowledgement for, and what the journal had stored of readings when the child was dead, has to arrive at a
// broker in this process. The one thing it takes from the gateway's word is what the journal announces as
// dropped, and only in the trial that fills the journal. It writes at most about 300 MiB below the
// directory it is given, and removes them.
//
// It does not cut the power: what the card itself promises and does not keep is not seen. scripts/powercut
// does that with a virtual machine.
package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// Options of a run.
type Options struct {
	Program string        // holdfast
	Dir     string        // on the card to be tried; a directory of ours is made in it
	For     time.Duration // at least 5s, of all trials together; a full disk may take longer to come about
	Seed    uint64        // of the order of faults
	Out     io.Writer     // for a person
	Log     io.Writer     // of faults as they come; nil discards

	Only string // the name of one trial; empty for all

	// Break is for checking the verdict: a gateway that breaks its promise has to be caught.
	Break Break
}

// Break is a way to break the promise.
type Break string

// The ways. The first is what a gateway would do that acknowledges before the disk has it.
const (
	AcknowledgeEarly Break = "acknowledge-early" // with a kill the newest records are gone from the disk
	DropOne          Break = "drop-one"          // one message in a hundred does not arrive, though it was sent
)

// Verdict is the account of one trial.
type Verdict struct {
	Name         string
	Kills, Cuts  int
	Refused      int // publishes that the gateway said no to, which is no promise
	Acknowledged int // by the gateway to publishers, and readings that were stored
	Arrived      int // of those, at least once
	Duplicates   int
	Disorder     int
	Dropped      int // not arrived, and announced in the journal
	Lost         int // not arrived, and not announced
	Err          error
}

// Good reports whether every promise was kept.
func (v *Verdict) Good() bool {
	return v.Err == nil && v.Lost == 0 && v.Disorder == 0 && v.Acknowledged > 0
}

// ErrBroken is what Run returns when a promise was broken.
var ErrBroken = errors.New("a promise was broken")

// Run makes every trial and prints the verdicts.
func Run(ctx context.Context, opts Options) ([]Verdict, error) {
	if opts.For < 5*time.Second {
		return nil, fmt.Errorf("torture: %v is too short to tell anything: want at least 5s", opts.For)
	}
	dir, err := os.MkdirTemp(opts.Dir, "holdfast-torture-")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if keep {
			fmt.Fprintf(opts.Out, "what is left of it is in %s\n", dir)
		} else {
			os.RemoveAll(dir)
		}
	}()
	fmt.Fprintf(opts.Out, "holdfast torture: %v in %s, seed %d; writes up to 300 MiB there\n", opts.For, dir, opts.Seed)
	var verdicts []Verdict
	for i, spec := range trials() {
		if ctx.Err() != nil {
			break
		}
		if opts.Only != "" && opts.Only != spec.name {
			continue
		}
		fmt.Fprintf(opts.Out, "%s  %s: %s\n", time.Now().Format("15:04:05"), spec.name, spec.what)
		v := runTrial(ctx, spec, opts, filepath.Join(dir, fmt.Sprint(i)), rand.New(rand.NewPCG(opts.Seed, uint64(i))))
		verdicts = append(verdicts, v)
		if v.Err != nil {
			fmt.Fprintf(opts.Out, "          %v\n", v.Err)
		}
	}
	bad := report(opts.Out, verdicts)
	switch {
	case bad:
		keep = true
		return verdicts, ErrBroken
	case ctx.Err() != nil:
		return verdicts, errors.New("torture: interrupted: the results until then are above")
	}
	return verdicts, nil
}

func report(out io.Writer, verdicts []Verdict) (bad bool) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tkills\tcuts\trefused\tacknowledged\tarrived\tduplicates\tout of order\tdropped, announced\tLOST\t")
	row := func(v Verdict) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", v.Name, v.Kills, v.Cuts, v.Refused, v.Acknowledged, v.Arrived, v.Duplicates, v.Disorder, v.Dropped, v.Lost)
	}
	sum := Verdict{Name: "all"}
	for _, v := range verdicts {
		row(v)
		bad = bad || !v.Good()
		sum.Kills += v.Kills
		sum.Cuts += v.Cuts
		sum.Refused += v.Refused
		sum.Acknowledged += v.Acknowledged
		sum.Arrived += v.Arrived
		sum.Duplicates += v.Duplicates
		sum.Disorder += v.Disorder
		sum.Dropped += v.Dropped
		sum.Lost += v.Lost
	}
	row(sum)
	w.Flush()
	if bad {
		fmt.Fprintln(out, "A PROMISE WAS BROKEN.")
	} else {
		fmt.Fprintln(out, "Every promise was kept: all that was acknowledged has arrived, or was announced as dropped.")
	}
	return bad
}
