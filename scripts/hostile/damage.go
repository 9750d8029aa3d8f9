package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"holdfast/broker/wire"
)

// said matches what a gateway says where it cannot give a number.
var said = regexp.MustCompile(`(?i)unknown|rewound|rewind|went back|gone back|older than|foreign|another gateway`)

// chain is gateway a and gateway b, each with a bridge to hub. What clients of one publish, clients of the other get.
type chain struct {
	*trial
	dir   string
	hub   *gateway
	other string // data of a gateway of another place
}

// damages runs chains: one of the gateways is killed and finds its data directory damaged.
func (t *trial) damages() error {
	for t.next() {
		if err := t.damageBatch(); err != nil {
			return err
		}
	}
	fmt.Printf("%d runs with damage in %v, %d failed; seeds %d to %d\n", t.done, time.Since(t.begun).Round(time.Second), t.failed, t.seed, t.seed+int64(t.done)-1)
	fmt.Printf("resident memory at most %d MiB\n", t.peak>>20)
	fmt.Println(t.judge.summary())
	if t.failed > 0 {
		for name, n := range t.blamed {
			fmt.Printf("in %d failed runs: %s\n", n, name)
		}
		return fmt.Errorf("%d of %d runs failed", t.failed, t.done)
	}
	return nil
}

// damageBatch runs chains over one hub.
func (t *trial) damageBatch() error {
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := &chain{trial: t, dir: dir, other: filepath.Join(dir, "other", "data")}
	if c.hub, err = newGateway(t.program, filepath.Join(dir, "hub"), "hub"); err != nil {
		return err
	}
	defer func() { c.hub.kill() }()
	if err := c.hub.configure("", ""); err != nil {
		return err
	}
	if _, err := c.hub.start(time.Minute); err != nil {
		return fmt.Errorf("%w: %s", err, tail(c.hub.logFile()))
	}
	if err := c.makeOther(); err != nil {
		return err
	}
	for i := 0; t.next() && i < 20; i++ {
		seed := t.seed + int64(t.done)
		t.done++
		names, err := c.run(seed)
		if err != nil {
			return err
		}
		if problems := t.judge.take(); len(problems) > 0 {
			t.failed++
			fmt.Printf("seed %d failed: %s\n", seed, strings.Join(names, ", "))
			for i, p := range problems {
				if i == 8 {
					fmt.Printf("  and %d more\n", len(problems)-i)
					break
				}
				fmt.Printf("  %s\n", p)
			}
			fmt.Printf("  again: make hostile ARGS=\"-damage -seed %d -runs 1\"\n", seed)
			for _, n := range names {
				t.blamed[n]++
			}
			if t.keep != "" {
				to := filepath.Join(t.keep, fmt.Sprintf("damage-%d", seed))
				for _, x := range []string{"a", "b"} {
					from := filepath.Join(dir, fmt.Sprintf("%s%d", x, seed))
					os.Remove(filepath.Join(from, "c.sock"))
					os.CopyFS(filepath.Join(to, x), os.DirFS(from))
				}
				fmt.Printf("  kept: %s\n", to)
			}
		}
		for _, x := range []string{"a", "b"} {
			os.RemoveAll(filepath.Join(dir, fmt.Sprintf("%s%d", x, seed)))
		}
	}
	return nil
}

// side is one gateway of the chain: it sends send/ upstream and takes take/ from there.
func (c *chain) side(name, send, take string) (*gateway, error) {
	g, err := newGateway(c.program, filepath.Join(c.dir, name), name)
	if err != nil {
		return nil, err
	}
	text := "  users:\n"
	for _, u := range []string{"writer", "reader", "mallory", "eve"} {
		text += fmt.Sprintf("    - {name: %s, password_hash: %q}\n", u, cheapHash(u))
	}
	text += fmt.Sprintf(`  acl:
    - {topic: "%[1]s/#", access: write, user: writer}
    - {topic: "%[2]s/#", access: read, user: reader}
    - {topic: "play/#", access: readwrite, user: mallory}
    - {topic: "#", access: subscribe, user: eve}
    - {topic: "lobby/#", access: readwrite, anonymous: true}
sensors:
  - {name: machine, driver: system, every: 1s}
bridges:
  - name: next
    protocol: 5
    upstream: ["mqtt://%[3]s"]
    out: [{filter: "%[1]s/#"}]
    in: [{filter: "%[2]s/#"}]
`, send, take, c.hub.mqtt)
	return g, g.configure("", text)
}

// makeOther lets a gateway of another place live for a moment, and keeps its data.
func (c *chain) makeOther() error {
	g, err := c.side("other", "elsewhere", "nowhere")
	if err != nil {
		return err
	}
	v := &victims{g: g, judge: c.judge}
	v.writers = []*writer{{v: v, login: login{user: "writer", id: "w", version: 5, clean: true}, topic: "elsewhere/x", qos: 1}}
	v.operator = &operator{v: v}
	if _, err := g.start(time.Minute); err != nil {
		return fmt.Errorf("%w: %s", err, tail(g.logFile()))
	}
	v.quiet.Store(true)
	v.startWriters()
	time.Sleep(1500 * time.Millisecond)
	v.end()
	g.kill()
	return nil
}

// startWriters is start without subscribers and operator.
func (v *victims) startWriters() {
	ctx, stop := context.WithCancel(context.Background())
	v.stop = stop
	for _, w := range v.writers {
		v.wait.Go(func() { w.run(ctx) })
	}
	for _, r := range v.readers {
		r.ready = make(chan struct{})
		v.wait.Go(func() { r.run(ctx) })
	}
}

// run is one chain and one damage.
func (c *chain) run(seed int64) (names []string, err error) {
	r := rand.New(rand.NewPCG(uint64(seed), 2))
	kind := damageKinds[r.IntN(len(damageKinds))]
	hitB, cut, live := r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(3) == 0
	names = []string{kind.name, map[bool]string{false: "of the sender", true: "of the receiver"}[hitB]}
	if cut {
		names = append(names, "with a backlog")
	}
	up, down := fmt.Sprintf("up%d", seed), fmt.Sprintf("down%d", seed)
	a, err := c.side(fmt.Sprintf("a%d", seed), up, down)
	if err != nil {
		return names, err
	}
	b, err := c.side(fmt.Sprintf("b%d", seed), down, up)
	if err != nil {
		return names, err
	}
	sides := []*gateway{a, b}
	var people []*victims
	var accounts []*account
	for i, g := range sides {
		if _, err := g.start(30 * time.Second); err != nil {
			return names, fmt.Errorf("%w: %s", err, tail(g.logFile()))
		}
		defer g.kill()
		v := &victims{g: g, judge: c.judge, operator: &operator{}}
		send := []string{up, down}[i]
		for q := byte(1); q < 3; q++ {
			x := newAccount(fmt.Sprintf("%s/%d at the other gateway", send, q), false)
			accounts = append(accounts, x)
			v.writers = append(v.writers, &writer{v: v, login: login{user: "writer", id: fmt.Sprint("w", q), version: wire.Version(3 + q), clean: true},
				topic: fmt.Sprintf("%s/%d", send, q), qos: q, accounts: []*account{x}})
			v.writers[q-1].hold.Store(true)
		}
		people = append(people, v)
	}
	for i, v := range people {
		take := []string{down, up}[i]
		v.readers = []*reader{{v: v, login: login{user: "reader", id: "reader", version: 5, expiry: 3600}, qos: 2, filters: []string{take + "/#"},
			accounts: map[string]*account{take + "/1": accounts[2-2*i], take + "/2": accounts[3-2*i]}, repeats: true}}
		defer v.end()
		v.start()
	}
	for _, g := range sides { // subscriptions of both bridges are there before anything is promised
		if err := c.connected(g, patience); err != nil {
			c.judge.problem("%v", err)
			return names, nil
		}
	}
	hold := func(on bool) {
		for _, v := range people {
			for _, w := range v.writers {
				w.hold.Store(on)
			}
		}
		if on {
			for _, v := range people {
				for _, w := range v.writers {
					w.settled()
				}
			}
		}
	}
	hold(false)
	target, v := a, people[0]
	if hitB {
		target, v = b, people[1]
	}
	time.Sleep(time.Duration(100+r.IntN(300)) * time.Millisecond)
	c.attackOne(r, target)
	c.settleAll(accounts, 15*time.Second, nil)

	old := filepath.Join(c.dir, "old")
	if !live { // a copy at rest
		v.quiet.Store(true)
		target.kill()
	}
	if err := replace(old, target.data()); err != nil {
		return names, err
	}
	if !live {
		if _, err := target.start(30 * time.Second); err != nil {
			return names, fmt.Errorf("%w: %s", err, tail(target.logFile()))
		}
		v.quiet.Store(false)
	}
	if cut {
		c.hub.kill()
	}
	time.Sleep(time.Duration(100+r.IntN(400)) * time.Millisecond)
	c.attackOne(r, target)
	if !cut && r.IntN(2) == 0 {
		c.settleAll(accounts, 15*time.Second, nil)
	}

	v.readers[0].anew.Store(true)
	v.readers[0].connects.Store(0)
	v.quiet.Store(true)
	target.kill()
	hold(true)
	if err := kind.do(r, target.data(), old, c.other); err != nil {
		return names, err
	}
	took, err := target.start(30 * time.Second)
	if err != nil {
		c.judge.problem("the gateway does not start with its data %s: %v: %s", kind.name, err, tail(target.logFile()))
		return names, nil
	}
	if took > c.startup {
		c.judge.problem("the start took %v, more than %v", took, c.startup)
	}
	if cut {
		if _, err := c.hub.start(30 * time.Second); err != nil {
			return names, fmt.Errorf("%w: %s", err, tail(c.hub.logFile()))
		}
	}
	for begun := time.Now(); v.readers[0].connects.Load() == 0 && time.Since(begun) < patience; {
		time.Sleep(5 * time.Millisecond)
	}
	v.quiet.Store(false)
	for _, g := range sides {
		if err := c.connected(g, 30*time.Second); err != nil {
			c.judge.problem("%v", err)
			return names, nil
		}
	}
	before := map[*account]int{}
	for _, v := range people {
		for _, w := range v.writers {
			before[w.accounts[0]] = w.settled()
		}
	}
	hold(false)
	c.attackOne(r, target)
	time.Sleep(time.Duration(200+r.IntN(300)) * time.Millisecond)
	hold(true)
	lost := c.settleAll(accounts, 15*time.Second, before)
	c.report(target, kind, lost)
	for _, g := range sides {
		if m := g.peak.Load(); m > c.memory<<20 {
			c.judge.problem("resident memory was %d MiB, more than %d", m>>20, c.memory)
		}
		c.peak = max(c.peak, g.peak.Load())
	}
	if c.verbose {
		fmt.Printf("seed %d: %s; %d of before the damage lost\n", seed, strings.Join(names, ", "), lost)
	}
	return names, nil
}

// attackOne lets one or two hostile programs at a gateway.
func (c *chain) attackOne(r *rand.Rand, g *gateway) {
	var wait sync.WaitGroup
	for range r.IntN(3) {
		m := c.chosen[r.IntN(len(c.chosen))]
		a := &attack{Rand: rand.New(rand.NewPCG(r.Uint64(), 1)), g: g, judge: c.judge, name: m.name, until: time.Now().Add(300 * time.Millisecond)}
		wait.Go(func() { m.do(a); a.close() })
	}
	wait.Wait()
}

// connected waits until a gateway's bridge is connected.
func (c *chain) connected(g *gateway, most time.Duration) error {
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		text, s, err := g.status()
		if err == nil && len(s.Bridges) == 1 && s.Bridges[0].Connected {
			return nil
		}
		if time.Since(begun) > most {
			return fmt.Errorf("the bridge of %s is not connected within %v: %v: %.300s", g.name, most, err, text)
		}
	}
}

// settleAll waits until what was acknowledged has come. What is missing of messages up to before is returned, the
// rest is a fault.
func (c *chain) settleAll(accounts []*account, most time.Duration, before map[*account]int) (lost int) {
	begun := time.Now()
	for _, a := range accounts {
		for {
			m, old := a.missing(int(^uint(0)>>1)), 0
			for _, n := range m {
				if n <= before[a] {
					old++
				}
			}
			// Of what is older it is not known whether it will come: everything newer has, and that comes behind it.
			if len(m) == old {
				lost += old
				break
			}
			if time.Since(begun) > most {
				c.judge.problem("%s: %d acknowledged messages have not come within %v: %s; the damage was behind %d", a.name, len(m)-old, most, ranges(m), before[a])
				lost += old
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		for _, p := range a.takeProblems() {
			c.judge.problem("%s", p)
		}
	}
	return lost
}

// report looks at what the gateway says of its loss.
func (c *chain) report(g *gateway, kind damage, lost int) {
	text, s, err := g.status()
	if err != nil {
		c.judge.problem("status: %v", err)
		return
	}
	counted := 0
	for _, l := range s.Journal.Losses {
		counted += int(l.Count)
	}
	if kind.visible && (lost > counted || kind.total) && !said.MatchString(text) {
		c.judge.problem("%d messages of before the damage are lost, the ledger has %d, and status does not say that it does not know: problems %q", lost, counted, s.Problems)
	}
}
