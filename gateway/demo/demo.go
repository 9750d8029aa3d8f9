// Package demo runs a whole gateway on simulated sensors against a stand-in upstream in the same
// process, takes the upstream away for a while, and compares by sequence number what was measured,
// what was acknowledged and what arrived.
//
// It shows the product's own path: nothing in it is simulated but the chips and the upstream's
// outages. It keeps nothing: its data lives in a temporary directory.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/fakeupstream"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// Gateway is the gateway that the demonstration runs.
type Gateway interface {
	Run(ctx context.Context) error
	StopSensors()
	Status() status.Status
}

// Options of a demonstration.
type Options struct {
	// New builds the gateway of a configuration, which was loaded from source, on simulated hardware. t is to get all
	// of its events.
	New    func(cfg *config.Config, source *reconfigure.Source, pi *simulated.Pi, t tap.Options, log *slog.Logger) (Gateway, error)
	Listen string        // of the gateway's broker, "host:port"
	For    time.Duration // 0 means until ctx ends
	Out    io.Writer     // what a person reads
	Screen bool          // whether Out is a terminal whose lines may be drawn over
	Log    *slog.Logger  // nil discards
}

const (
	showEvery = time.Second
	drainTime = 30 * time.Second // how long the end waits for the backlog
)

// Run shows the demonstration until ctx ends or Options.For is over, then lets the backlog arrive
// and prints the account. It returns an error if an acknowledged reading was lost.
func Run(ctx context.Context, opts Options) error {
	dir, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	account := newLedger()
	up, err := fakeupstream.NewUpstream(filepath.Join(dir, "upstream"), "demo/#", account.arrived)
	if err != nil {
		return err
	}
	defer up.Close()
	if err := up.Start(); err != nil {
		return err
	}
	source, err := configure(dir, opts.Listen, up.Address)
	if err != nil {
		return err
	}
	cfg, err := source.Load()
	if err != nil {
		return err
	}
	events := tap.Options{Name: "demo", Size: 1 << 14, Take: account.take}
	agent, err := opts.New(cfg, source, simulated.New(simulated.Options{Seed: 1}), events, opts.Log)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(running) }()

	s := &screen{out: opts.Out, redraw: opts.Screen}
	fmt.Fprintf(opts.Out, "holdfast demo: a simulated Pi, its broker on mqtt://%s, and an upstream that comes and goes\n", opts.Listen)
	fmt.Fprintf(opts.Out, "its dashboard is on %s, if that port is free\n", cfg.Web.URL)
	if opts.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.For)
		defer cancel()
	}
	err = show(ctx, s, opts.For, agent, up, account, ended)
	if err != nil {
		return err
	}
	// The gateway stops measuring, and the upstream stays until everything owed has arrived.
	if err := up.Start(); err != nil {
		return err
	}
	agent.StopSensors()
	waitForDrain(agent, s, account)
	stop()
	err = <-ended
	return errors.Join(err, report(opts.Out, account.totals()))
}

// show draws the state each second and makes the upstream come and go.
func show(ctx context.Context, s *screen, total time.Duration, agent Gateway, up *fakeupstream.Upstream, account *ledger, ended chan error) error {
	outage := outagePlan(total)
	begun := time.Now()
	tick := time.NewTicker(showEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return errors.Join(errors.New("the gateway ended early"), err)
		case <-tick.C:
		}
		if away := outage(time.Since(begun)); away == up.Running() {
			if away {
				up.Stop()
				s.event("the upstream is gone: readings go on, and stay in the journal")
			} else {
				if err := up.Start(); err != nil {
					return err
				}
				s.event("the upstream is back: the journal drains in order")
			}
		}
		s.draw(agent.Status(), account, up.Running())
	}
}

// outagePlan returns when the upstream is away: the middle third of a demonstration with an end, and
// otherwise ten seconds of every thirty.
func outagePlan(total time.Duration) func(time.Duration) bool {
	if total > 0 {
		return func(at time.Duration) bool { return at > total/3 && at < total*2/3 }
	}
	return func(at time.Duration) bool { return at%(30*time.Second) > 20*time.Second }
}

func waitForDrain(agent Gateway, s *screen, account *ledger) {
	tick := time.NewTicker(showEvery / 10)
	defer tick.Stop()
	for end := time.Now().Add(drainTime); time.Now().Before(end); <-tick.C {
		st := agent.Status()
		if depth(st) == 0 && account.totals().Lost == 0 {
			break
		}
	}
	s.draw(agent.Status(), account, true)
}

func depth(st status.Status) (n uint64) {
	for _, r := range st.Journal.Readers {
		n += r.Depth
	}
	return n
}

func report(out io.Writer, t Totals) error {
	fmt.Fprintf(out, "\nreadings taken   %6d\nacknowledged     %6d\ndelivered        %6d\nduplicates       %6d\nout of order     %6d\nlost             %6d\n",
		t.Taken, t.Acknowledged, t.Delivered, t.Duplicates, t.Disorder, t.Lost)
	if t.Lost > 0 || t.Refused > 0 || t.Disorder > 0 {
		return fmt.Errorf("%d acknowledged readings lost, %d refused, %d out of order", t.Lost, t.Refused, t.Disorder)
	}
	return nil
}

// configure makes the demonstration's configuration the way a user does: as YAML.
func configure(dir, listen, upstream string) (*reconfigure.Source, error) {
	text := fmt.Sprintf(`device:
  id: demo
data_dir: %s
broker:
  listeners:
    - url: mqtt://%s
journal:
  max_size: 64MiB
  keep_free: 0B
  commit_every: 200ms
bridges:
  - name: upstream
    upstream: ["mqtt://%s"]
    out:
      - filter: "sensors/#"
        prefix: "demo/"
sensors:
  - {name: air, driver: bme280, bus: simulated, every: 500ms}
  - {name: tank, driver: ads1115, bus: simulated, every: 1s}
  - {name: soil, driver: ds18b20, bus: simulated, every: 2s}
  - {name: door, driver: gpio-input, bus: simulated, line: 17, every: 5s}
  - {name: board, driver: cpu, bus: simulated, every: 5s}
outputs:
  - {name: pump, driver: gpio-output, bus: simulated, line: 22, safe: off, lease: 60s}
`, filepath.Join(dir, "gateway"), listen, upstream)
	file := filepath.Join(dir, demoFile)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return reconfigure.NewSource([]string{file}, known()), nil
}

const demoFile = "demo.yaml"

func known() config.Options {
	return config.Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers(), Hostname: os.Hostname, Getenv: os.LookupEnv}
}

// screen draws a few lines over themselves, or one line a second where it cannot.
type screen struct {
	out    io.Writer
	redraw bool
	lines  int
}

func (s *screen) event(text string) {
	s.clear()
	fmt.Fprintf(s.out, "%s  %s\n", time.Now().Format("15:04:05"), text)
}

func (s *screen) clear() {
	if s.redraw && s.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.lines)
	}
	s.lines = 0
}

func (s *screen) draw(st status.Status, account *ledger, up bool) {
	t := account.totals()
	link := "up"
	if !up {
		link = "AWAY"
	}
	summary := fmt.Sprintf("upstream %-4s  journal %4d waiting  taken %5d  delivered %5d", link, depth(st), t.Taken, t.Delivered)
	readings := account.show()
	s.clear()
	if !s.redraw {
		fmt.Fprintf(s.out, "%s  %s  %s\n", time.Now().Format("15:04:05"), summary, strings.Join(readings, "  "))
		return
	}
	for _, r := range readings {
		fmt.Fprintln(s.out, "  "+r)
	}
	fmt.Fprintln(s.out, summary)
	s.lines = len(readings) + 1
}

// show returns the newest value of every quantity.
func (l *ledger) show() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for name, r := range l.latest {
		lines = append(lines, fmt.Sprintf("%s %.2f %s", name, r.Value, r.Unit))
	}
	slices.Sort(lines)
	return lines
}
