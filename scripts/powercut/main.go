// Command powercut cuts the power of a machine that runs holdfast, again and again, and counts what
// was acknowledged and is not on its disk.
//
// The machine is a QEMU guest with Debian's arm64 kernel and a journaled ext4, and the power cut is
// SIGKILL to QEMU in the middle of work: whatever the guest's kernel has not written to its disk is
// gone. The disk's own cache is not: a missing flush of that is found by the tests on a simulated disk
// (broker/journal), not here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.IntVar(&o.kills, "kills", 20, "how often to cut the power under load")
	flag.IntVar(&o.publishers, "publishers", 8, "clients that publish at the same time")
	flag.StringVar(&o.assets, "assets", "", "`DIR` with the guest's kernel, modules and busybox: see scripts/powercut/setup")
	flag.Parse()
	ok, err := powercut(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
	}
	if !ok {
		os.Exit(1)
	}
}

type options struct {
	kills, publishers int
	assets            string
}

func powercut(ctx context.Context, o options) (ok bool, err error) {
	work, err := os.MkdirTemp("", "powercut-")
	if err != nil {
		return false, err
	}
	defer func() {
		if ok {
			os.RemoveAll(work)
		} else {
			fmt.Printf("disk and console are kept in %s\n", work)
		}
	}()
	g, err := newMachine(ctx, o.assets, work)
	if err != nil {
		return false, err
	}
	var publishers []*publisher
	for i := range o.publishers {
		publishers = append(publishers, &publisher{topic: fmt.Sprint("pub/", i)})
	}
	var last *finding
	var up, under time.Duration
	early := 0
	for kill := 1; kill <= o.kills; kill++ {
		if kill%4 == 0 { // a cut that interrupts what repairs the one before
			moment, err := cutWhileStarting(ctx, g, up)
			if err != nil {
				return false, fmt.Errorf("start before cut %d: %w", kill, err)
			}
			early++
			fmt.Printf("        cut %.1f s after switching on\n", moment.Seconds())
		}
		if up, under, err = cutUnderLoad(ctx, g, publishers); err != nil {
			return false, fmt.Errorf("cut %d: %w", kill, err)
		}
		if last, err = check(ctx, g.image, work, publishers); err != nil {
			return false, fmt.Errorf("after cut %d: %w", kill, err)
		}
		fmt.Printf("cut %2d: up after %.1f s, %.1f s of load: %s\n", kill, up.Seconds(), under.Seconds(), last)
		if !last.ok() {
			return false, errors.New("the disk does not hold what it should\n" + strings.Join(last.disorder, "\n"))
		}
	}
	if last == nil || last.acknowledged == 0 {
		return false, errors.New("nothing was acknowledged: nothing is shown")
	}
	if err := starts(ctx, g); err != nil {
		return false, fmt.Errorf("start after the last cut: %w", err)
	}
	fmt.Printf("%d cuts under load and %d while starting, every start went well: %s\n", o.kills, early, last)
	return true, nil
}

// cutUnderLoad switches the guest on, lets every client publish, and cuts the power at a random moment.
func cutUnderLoad(ctx context.Context, g *machine, publishers []*publisher) (up, under time.Duration, err error) {
	m, err := g.start()
	if err != nil {
		return 0, 0, err
	}
	defer m.Cut()
	started := time.Now()
	ctx, cancel := m.Within(ctx, bootBudget)
	defer cancel()
	acked := make(chan struct{})
	first := sync.OnceFunc(func() { close(acked) })
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	for _, p := range publishers {
		work.Go(func() { p.publish(ctx, m.addr, first) })
	}
	select {
	case <-acked:
	case <-m.Ended:
		return 0, 0, fmt.Errorf("the guest has switched itself off:\n%s", m.Tail)
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("no acknowledgement: %w\n%s", context.Cause(ctx), m.Tail)
	}
	up = time.Since(started)
	under = time.Duration(rand.Int64N(int64(4 * time.Second)))
	select {
	case <-time.After(under):
	case <-m.Ended:
		return 0, 0, fmt.Errorf("the guest has switched itself off:\n%s", m.Tail)
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	m.Cut()
	return up, under, nil
}

// cutWhileStarting cuts the power at a random moment of the second half of a start, given how long one
// takes: in the repair of ext4, in the recovery of the journal, at the first connections.
func cutWhileStarting(ctx context.Context, g *machine, whole time.Duration) (time.Duration, error) {
	m, err := g.start()
	if err != nil {
		return 0, err
	}
	defer m.Cut()
	moment := whole/2 + time.Duration(rand.Int64N(int64(whole/2)))
	select {
	case <-time.After(moment):
	case <-m.Ended:
		return 0, fmt.Errorf("the guest has switched itself off:\n%s", m.Tail)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return moment, nil
}

// starts switches the guest on once more and sees it at work.
func starts(ctx context.Context, g *machine) error {
	m, err := g.start()
	if err != nil {
		return err
	}
	defer m.Cut()
	ctx, cancel := m.Within(ctx, bootBudget)
	defer cancel()
	conn, _, err := connect(ctx, m.addr, "last")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m.Tail)
	}
	return conn.Close()
}
