package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/faultnet"
	"holdfast/gateway/fakeupstream"
	"holdfast/gateway/verify"
)

// spec is a kind of trial.
type spec struct {
	name, what string
	share      float64 // of the time
	journal    string  // its section of the configuration, indented
	payload    int     // bytes of a message
	drops      bool    // the gateway may drop, and has to announce it
	quota      bool    // on a file system of its own that is full early
	faults     func(*bench, context.Context) error
}

func trials() []spec {
	return []spec{
		{
			name: "power and links", what: "kills, cut links, an upstream that goes away", share: 0.7,
			journal: "max_size: 256MiB, keep_free: 0B, commit_every: 200ms", payload: 200, faults: (*bench).powerAndLinks,
		},
		{
			name: "full journal", what: "journal.max_size is reached, the oldest gives way", share: 0.15,
			journal: "max_size: 32MiB, keep_free: 0B, commit_every: 200ms, when_full: drop-oldest", payload: 32 << 10, drops: true, faults: (*bench).full,
		},
		{
			name: "full disk", what: "no space is left, publishers are refused", share: 0.15,
			journal: "max_size: 1GiB, keep_free: 0B, commit_every: 200ms, when_full: refuse-new", payload: 32 << 10, quota: true, faults: (*bench).full,
		},
	}
}

// bench is one trial under way.
type bench struct {
	spec
	Verdict
	opts    Options
	dir     string
	data    string // data_dir
	rand    *rand.Rand
	until   time.Time
	pace    time.Duration // the longest time between two faults
	ledger  *fakeupstream.Ledger
	up      *fakeupstream.Upstream
	link    *faultnet.Link
	gateway child
	load    *load
	configs []string
	arrived int // messages, for DropOne
}

func runTrial(ctx context.Context, s spec, opts Options, dir string, r *rand.Rand) Verdict {
	b := &bench{spec: s, Verdict: Verdict{Name: s.name}, opts: opts, dir: dir, rand: r, ledger: fakeupstream.NewLedger()}
	b.until = time.Now().Add(time.Duration(s.share * float64(opts.For)))
	b.pace = min(5*time.Second, opts.For/10)
	err := b.run(ctx)
	b.Err = err
	return b.Verdict
}

func (b *bench) run(ctx context.Context) (err error) {
	if err := b.prepare(); err != nil {
		return err
	}
	defer b.up.Close()
	defer b.link.Cut()
	if b.quota {
		unmount, err := b.limit(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unmount()) }()
	}
	defer func() {
		if e := b.gateway.kill(); e != nil && err == nil {
			err = e
		}
	}()
	if err := b.configure(); err != nil {
		return err
	}
	if err := b.gateway.start(ctx, b.configs...); err != nil {
		return err
	}
	b.load = startLoad(b.gateway.address, b.payload, b.ledger)
	defer b.load.stop()
	if err := b.faults(b, ctx); err != nil && ctx.Err() == nil {
		return err
	}
	b.load.stop()
	// Interrupted or not: what was promised until now is judged.
	return b.judge(context.WithoutCancel(ctx))
}

func (b *bench) prepare() error {
	if err := os.MkdirAll(filepath.Join(b.dir, "upstream"), 0o700); err != nil {
		return err
	}
	var err error
	if b.up, err = fakeupstream.NewUpstream(filepath.Join(b.dir, "upstream"), "up/#", b.take); err != nil {
		return err
	}
	address, err := faultnet.FreeAddress()
	if err != nil {
		return err
	}
	b.link = faultnet.New(address, b.up.Address)
	if b.gateway.address, err = faultnet.FreeAddress(); err != nil {
		return err
	}
	b.gateway.program = b.opts.Program
	b.gateway.log = filepath.Join(b.dir, "holdfast.log")
	b.data = filepath.Join(b.dir, "data")
	return errors.Join(b.up.Start(), b.link.Join())
}

// configure writes two files: with the second one there are sensors.
func (b *bench) configure() error {
	base := fmt.Sprintf(`device: {id: torture}
data_dir: %q
broker: {listeners: [{url: "mqtt://%s"}]}
web: {url: off}
journal: {%s}
bridges:
  - name: up
    upstream: ["mqtt://%s"]
    out:
      - {filter: "pub/#", prefix: "up/"}
      - {filter: "sensors/#", prefix: "up/"}
`, b.data, b.gateway.address, b.journal, b.link.Addr())
	const sensors = `sensors:
  - {name: air, driver: bme280, bus: simulated, every: 100ms}
  - {name: tank, driver: ads1115, bus: simulated, every: 200ms}
  - {name: board, driver: cpu, bus: simulated, every: 500ms}
`
	for name, text := range map[string]string{"base.yaml": base, "sensors.yaml": sensors} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	b.configs = []string{filepath.Join(b.dir, "base.yaml"), filepath.Join(b.dir, "sensors.yaml")}
	if b.quota { // a reading that is refused leaves a hole in their numbers, which is no broken promise
		b.configs = b.configs[:1]
	}
	return nil
}

// place returns the ledger's stream that a reading's number is in, and its number there, from 1 on. After an unknown loss
// that the gateway has noticed, numbers go on above a multiple of verify.Series; what was stored before is not known.
func place(seq uint64) (stream string, n uint64) {
	return fmt.Sprint("readings ", seq/verify.Series), seq % verify.Series
}

// take gets everything that comes to the upstream.
func (b *bench) take(m *broker.Message) {
	if b.arrived++; b.opts.Break == DropOne && b.arrived%100 == 0 {
		return
	}
	topic := strings.TrimPrefix(m.Topic, "up/")
	if strings.HasPrefix(topic, "pub/") {
		number, _, _ := strings.Cut(string(m.Payload), " ")
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			b.ledger.Arrived(topic, topic, n)
		}
		return
	}
	var reading struct{ Seq uint64 }
	if json.Unmarshal(m.Payload, &reading) == nil && reading.Seq > 0 {
		series, n := place(reading.Seq)
		b.ledger.Arrived(series, series+topic, n)
	}
}

func (b *bench) event(format string, args ...any) {
	if b.opts.Log != nil {
		fmt.Fprintf(b.opts.Log, "%s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
}

// pause waits up to the pace, or to the end of ctx.
func (b *bench) pause(ctx context.Context) error {
	t := time.NewTimer(b.pace/20 + rand.N(b.pace))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// powerAndLinks does one thing after another to the gateway, in no order.
func (b *bench) powerAndLinks(ctx context.Context) error {
	// Both worst cases at least once: killed while nothing can leave, and while it drains.
	script := []func(context.Context) error{b.cut, b.crash, b.join, b.crash}
	for time.Now().Before(b.until) || len(script) > 0 {
		if err := b.pause(ctx); err != nil {
			return err
		}
		do := []func(context.Context) error{b.crash, b.crash, b.cut, b.join, b.away, b.back}[b.rand.IntN(6)]
		if len(script) > 0 {
			do, script = script[0], script[1:]
		}
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// full cuts the link until the journal can take no more, kills the gateway then, and joins it again.
func (b *bench) full(ctx context.Context) error {
	if err := b.cut(ctx); err != nil {
		return err
	}
	const most = 3 * time.Minute
	for end := time.Now().Add(most); !b.isFull(); {
		if err := b.pause(ctx); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the disk is not full after %v: this machine is too slow for this trial", most)
		}
	}
	b.event("full")
	for again := true; again; again = time.Now().Before(b.until) {
		for _, do := range []func(context.Context) error{b.pause, b.crash, b.pause, b.crash, b.join, b.pause, b.crash, b.cut} {
			if err := do(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) isFull() bool {
	if !b.drops {
		return b.load.refused.Load() > 0
	}
	v, err := b.view()
	return err == nil && len(v.Losses()) > 0
}

func (b *bench) crash(ctx context.Context) error {
	b.event("kill")
	if err := b.gateway.kill(); err != nil {
		return err
	}
	b.Kills++
	if b.opts.Break == AcknowledgeEarly {
		if err := b.forget(); err != nil {
			return err
		}
	}
	return b.gateway.start(ctx, b.configs...)
}

// forget removes the newest part of the journal, as if it had never come to the disk.
func (b *bench) forget() error {
	segments, err := filepath.Glob(filepath.Join(b.data, "journal", "*.seg"))
	if err != nil || len(segments) == 0 {
		return err
	}
	newest, written := "", int64(0)
	for _, s := range segments {
		info, err := os.Stat(s)
		if err != nil {
			return err
		}
		if t := info.ModTime().UnixNano(); t > written {
			newest, written = s, t
		}
	}
	f, err := os.OpenFile(newest, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	const header = 4096
	if err == nil {
		_, err = f.WriteAt(make([]byte, max(0, info.Size()-header)), header)
	}
	return errors.Join(err, f.Close())
}

func (b *bench) cut(context.Context) error {
	b.event("cut the link")
	b.link.Cut()
	b.Cuts++
	return nil
}

func (b *bench) join(context.Context) error {
	b.event("join the link")
	return b.link.Join()
}

func (b *bench) away(context.Context) error {
	b.event("the upstream goes away")
	b.up.Stop()
	b.Cuts++
	return nil
}

func (b *bench) back(context.Context) error {
	b.event("the upstream is back")
	return b.up.Start()
}
