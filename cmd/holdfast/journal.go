package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/broker"
	"holdfast/broker/journal"
)

func journalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "journal",
		Short: "Look at the journal, check it, mend it",
		Long: "Everything but repair, forget, and dead send and delete only reads, and may be used while the gateway runs.\n" +
			"The journal is the one of the configuration (-c) or of --data-dir.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%s: unknown command %q: see '%s --help'", c.CommandPath(), args[0], c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var p place
	c.PersistentPreRunE = func(*cobra.Command, []string) error { return p.becomeOwner() }
	c.PersistentFlags().StringArrayVarP(&p.files, "config", "c", []string{defaultConfig},
		"configuration `FILE` that names data_dir; given more than once, later files win")
	c.PersistentFlags().StringVar(&p.dataDir, "data-dir", "", "`DIR` of the gateway's data, instead of -c")
	c.AddCommand(
		journalInfoCommand(&p), journalListCommand(&p), journalLossesCommand(&p), journalDeadCommand(&p),
		journalCatCommand(&p), journalExportCommand(&p),
		journalVerifyCommand(&p), journalRepairCommand(&p), journalForgetCommand(&p),
	)
	return c
}

// place is where the journal is.
type place struct {
	files   []string
	dataDir string
}

func (p *place) dir() (string, error) {
	dataDir := p.dataDir
	if dataDir == "" {
		cfg, err := load(p.files)
		if err != nil {
			return "", usageError{fmt.Errorf("%w\nname the configuration with -c FILE, or the journal with --data-dir DIR", err)}
		}
		dataDir = cfg.DataDir
	}
	return filepath.Join(dataDir, "journal"), nil
}

// becomeOwner continues as the owner of the data directory if root runs the command: as the service that owns the
// journal. It loads the configuration first, which that user may not be able to read.
func (p *place) becomeOwner() error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := p.dir()
	if err != nil {
		return err
	}
	p.dataDir = filepath.Dir(dir)
	if err := becomeOwner(p.dataDir); err != nil {
		return err
	}
	return becomeOwner(dir)
}

func (p *place) view() (*journal.View, error) {
	dir, err := p.dir()
	if err != nil {
		return nil, err
	}
	return journal.Inspect(dir)
}

// look returns what runs a subcommand that looks at the journal.
func (p *place) look(run func(c *cobra.Command, v *journal.View) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		v, err := p.view()
		if err != nil {
			return err
		}
		return run(c, v)
	}
}

// progress returns a function that shows on stderr how far a long reading is, if that is a terminal,
// and one that clears it away.
func progress(what string) (show func(done, total int64), end func()) {
	if info, err := os.Stderr.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil, func() {}
	}
	return meter(os.Stderr, what, time.Now)
}

// meter shows nothing during the first second, and then a line four times a second.
func meter(w io.Writer, what string, now func() time.Time) (show func(done, total int64), end func()) {
	next := now().Add(time.Second)
	shown := false
	show = func(done, total int64) {
		t := now()
		if t.Before(next) || total <= 0 {
			return
		}
		next, shown = t.Add(time.Second/4), true
		fmt.Fprintf(w, "\r%s %3d %% of %s ", what, 100*min(done, total)/total, sizeOf(total))
	}
	return show, func() {
		if shown {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
}

// sizeOf writes a size for people.
func sizeOf(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// when writes a time for people: with a question mark where the clock was not synchronised.
func when(t journal.Time) string {
	switch {
	case t.Wall.IsZero():
		return "-"
	case t.Synced:
		return t.Wall.Format("2006-01-02 15:04:05")
	}
	return t.Wall.Format("2006-01-02 15:04:05") + "?"
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// selection is which messages cat and export show.
type selection struct {
	reader, topic string
	records       journal.Select
}

func (s *selection) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.reader, "reader", "", "only what is owed to reader `NAME`")
	c.Flags().StringVar(&s.topic, "topic", "", "only messages on topics that match `FILTER`, such as sensors/#")
	c.Flags().Uint64Var(&s.records.From, "from", 0, "from sequence number `SEQ` on")
	c.Flags().Uint64Var(&s.records.To, "to", 0, "up to sequence number `SEQ`, which is included")
}

// check refuses an impossible selection, before anything is shown.
func (s *selection) check(v *journal.View) error {
	if s.topic != "" {
		if err := broker.CheckFilter(s.topic); err != nil {
			return usageError{fmt.Errorf("--topic: %w", err)}
		}
	}
	if s.records.To != 0 && s.records.To < s.records.From {
		return usageError{fmt.Errorf("--to %d is below --from %d", s.records.To, s.records.From)}
	}
	if s.reader == "" {
		return nil
	}
	var names []string
	for _, r := range v.Readers() {
		if r.Name == s.reader {
			return nil
		}
		names = append(names, r.Name)
	}
	return usageError{fmt.Errorf("--reader %s: no such reader: there are: %q", s.reader, names)}
}

// matches reports whether a message is selected. waiting requires a message that is queued for a reader.
func (s *selection) matches(r *journal.Record, waiting bool) bool {
	if s.topic != "" && !broker.Match(s.topic, r.Message.Topic) {
		return false
	}
	if s.reader == "" && !waiting {
		return true
	}
	for _, o := range r.Owed {
		if o.Reader != "" && (s.reader == "" || o.Reader == s.reader) && (o.Waits || !waiting) {
			return true
		}
	}
	return false
}
