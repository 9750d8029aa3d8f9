// Command hostile attacks a real gateway with random moves of hostile clients, and judges what honest clients
// had of it. Every run has a seed; the README of scripts shows how to repeat one.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// costlyHash is what `holdfast passwd` prints for the password of user boss.
const costlyHash = "$argon2id$v=19$m=19456,t=2,p=1$A8jt/8WcvWYxtGo1r8sFCA$7jjs8QAvPCR/U1oHpENd87anAp62GMHCEEPrOUa3MYQ"

// options are the flags.
type options struct {
	program  string
	runs     int
	seed     int64
	seconds  int
	batch    int
	restart  int
	moves    string
	damage   bool
	worst    bool
	keep     string
	memory   int64
	wait     time.Duration
	startup  time.Duration
	failures int
	verbose  bool
}

func main() {
	var o options
	flag.StringVar(&o.program, "program", "bin/holdfast", "`binary` under attack")
	flag.IntVar(&o.runs, "runs", 1000, "`number` of runs")
	flag.Int64Var(&o.seed, "seed", 1, "`seed` of the first run; each further one has the next")
	flag.IntVar(&o.seconds, "seconds", 0, "begin no run after so many `seconds`; 0 for no limit")
	flag.IntVar(&o.batch, "batch", 30, "`runs` against the same data directory")
	flag.IntVar(&o.restart, "restart", 10, "SIGKILL and restart after so many `runs`")
	flag.StringVar(&o.moves, "moves", "", "only moves with these `names`, separated by commas")
	flag.BoolVar(&o.damage, "damage", false, "a chain of two gateways, of which one finds its data directory rewound, zeroed, half copied or foreign")
	flag.BoolVar(&o.worst, "worst", false, "every kind of cost at its full size against the default limits, alone and all together")
	flag.StringVar(&o.keep, "keep", "", "keep configuration, data and log of a run that fails in this `directory`")
	flag.Int64Var(&o.memory, "memory", 128, "most resident memory in `MiB`")
	flag.DurationVar(&o.wait, "wait", patience, "longest that an honest client may wait")
	flag.DurationVar(&o.startup, "startup", 5*time.Second, "longest from the start after SIGKILL to CONNACK")
	flag.IntVar(&o.failures, "failures", 10, "give up after so many runs that `failed`")
	flag.BoolVar(&o.verbose, "v", false, "a line for each run")
	list := flag.Bool("list", false, "list the moves")
	flag.Parse()
	if *list {
		for _, m := range moves {
			fmt.Println(m.name)
		}
		return
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.batch < 1 || o.restart < 1 {
		return fmt.Errorf("-batch and -restart must be at least 1")
	}
	var err error
	if o.program, err = filepath.Abs(o.program); err != nil {
		return err
	}
	if _, err := os.Stat(o.program); err != nil {
		return fmt.Errorf("%w: make build", err)
	}
	chosen := moves
	if o.worst {
		return (&trial{options: o}).worst()
	}
	if o.moves != "" {
		chosen = nil
		for _, name := range strings.Split(o.moves, ",") {
			i := slices.IndexFunc(moves, func(m move) bool { return m.name == name })
			if i < 0 {
				return fmt.Errorf("no move is named %q: -list", name)
			}
			chosen = append(chosen, moves[i])
		}
	}
	t := &trial{options: o, chosen: chosen, judge: newJudge(o.wait), begun: time.Now(), blamed: map[string]int{}}
	if o.damage {
		return t.damages()
	}
	return t.attacks()
}

// trial is all runs of one call.
type trial struct {
	options
	chosen   []move
	judge    *judge
	begun    time.Time
	done     int
	failed   int
	peak     int64 // bytes of memory
	disk     int64
	restarts []time.Duration
	blamed   map[string]int // moves of runs that failed
}

// next reports whether another run is to begin.
func (t *trial) next() bool {
	return t.done < t.runs && t.failed < t.failures && (t.seconds == 0 || time.Since(t.begun) < time.Duration(t.seconds)*time.Second)
}

// attacks runs batch after batch. One that has failed is given up, so that the next one begins clean.
func (t *trial) attacks() error {
	for t.next() {
		if err := t.attackBatch(); err != nil {
			return err
		}
	}
	fmt.Printf("%d runs in %v, %d failed; seeds %d to %d\n", t.done, time.Since(t.begun).Round(time.Second), t.failed, t.seed, t.seed+int64(t.done)-1)
	fmt.Printf("resident memory at most %d MiB, data directory at most %d MiB\n", t.peak>>20, t.disk>>20)
	if len(t.restarts) > 0 {
		fmt.Printf("%d restarts after SIGKILL, the slowest in %v\n", len(t.restarts), slices.Max(t.restarts).Round(time.Millisecond))
	}
	fmt.Println(t.judge.summary())
	if t.failed > 0 {
		for name, n := range t.blamed {
			fmt.Printf("in %d failed runs: %s\n", n, name)
		}
		return fmt.Errorf("%d of %d runs failed", t.failed, t.done)
	}
	return nil
}

// limits of every second batch are so small that attackers reach them.
func limits(first int64) string {
	if first/2%2 == 0 {
		return ""
	}
	return "sessions: 400, subscriptions: 200, filters: 3000, retained: 300, retained_total: 4MiB, queued_total: 16MiB"
}

// attackBatch attacks one gateway until the batch is over or a run has failed.
func (t *trial) attackBatch() (err error) {
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	first := t.seed + int64(t.done)
	up, err := newUpstream()
	if err != nil {
		return err
	}
	defer up.close()
	g, err := newGateway(t.program, dir, "site")
	if err != nil {
		return err
	}
	defer g.kill()
	if err := g.configure(limits(first), rules(up.addr)); err != nil {
		return err
	}
	if err := g.grant(guestPassword, guestRights); err != nil {
		return err
	}
	if _, err := g.start(time.Minute); err != nil {
		log, _ := os.ReadFile(g.logFile())
		return fmt.Errorf("%w: %s", err, log)
	}
	b := &batch{trial: t, g: g, up: up, first: first, v: newVictims(g, up, t.judge)}
	b.favourite = t.chosen[rand.New(rand.NewPCG(uint64(first), 3)).IntN(len(t.chosen))]
	b.v.start()
	b.idle, _ = g.metrics(patience)
	for i := 1; t.next() && i <= t.batch; i++ {
		seed := t.seed + int64(t.done)
		t.done++
		names := b.attack(seed)
		if i == t.batch || i%t.restart == 0 || !t.next() {
			b.settle(30 * time.Second)
			b.kill()
		}
		if i == t.batch || !t.next() {
			b.stop()
		}
		if problems := t.judge.take(); len(problems) > 0 {
			b.fail(seed, names, problems)
			break
		}
	}
	b.end()
	return nil
}
