package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/broker/journal"
	"holdfast/gateway/verify"
)

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func journalInfoCommand(p *place) *cobra.Command {
	return &cobra.Command{
		Use:   "info",
		Short: "Size, readers, losses and state of the journal",
		Args:  noArgs,
		RunE: p.look(func(c *cobra.Command, v *journal.View) error {
			return printInfo(c.OutOrStdout(), v.Info(), v.Losses())
		}),
	}
}

func printInfo(out io.Writer, i journal.Info, losses []journal.Loss) error {
	w := table(out)
	line := func(key, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	line("journal", "%s", i.Dir)
	if i.Format == 0 {
		line("format", "none yet: no record")
	} else {
		line("format", "version %d", i.Format)
	}
	if i.Holder != 0 {
		line("in use", "by process %d", i.Holder)
	} else {
		line("in use", "no")
	}
	line("size", "%s in %s, %s beside them unused", sizeOf(i.Size), plural(uint64(i.Segments), "segment", "segments"), sizeOf(i.Unused))
	line("messages", "%d since the beginning", i.Messages)
	line("retained", "%d", i.Retained)
	line("state", "%s", plural(uint64(i.State), "key", "keys"))
	switch {
	case i.Clock.Wall.IsZero():
		line("clock", "unknown: no record")
	case i.Clock.Synced:
		line("clock", "synchronised at the newest record, %s", when(i.Clock))
	default:
		line("clock", "not synchronised at the newest record: %s may be wrong", when(i.Clock))
	}
	if i.Snapshot.Number == 0 {
		line("snapshot", "none")
	} else {
		line("snapshot", "%s, %s, number %d", i.Snapshot.Time.Format(time.DateTime), sizeOf(i.Snapshot.Size), i.Snapshot.Number)
	}
	for _, reader := range unknownOf(losses) {
		line("lost", "%s: see 'holdfast journal losses'", unknownNumber(orDash(escaped(reader))))
	}
	switch {
	case i.Losses == 0:
		line("lost", "nothing")
	case i.Lost > 0:
		line("lost", "%s in %s: see 'holdfast journal losses'",
			plural(i.Lost, "message", "messages"), plural(uint64(i.Losses), "range", "ranges"))
	}
	rec := i.Recovery
	if bad := len(rec.Aside); bad > 0 || rec.Damaged > 0 {
		line("damage", "%s in records, %s unusable: see 'holdfast journal verify'",
			sizeOf(rec.Damaged), plural(uint64(bad), "file", "files"))
	}
	if len(i.Aside) > 0 {
		line("set aside", "%s", strings.Join(i.Aside, ", "))
	}
	if len(rec.Foreign) > 0 {
		line("not ours", "%s", strings.Join(rec.Foreign, ", "))
	}
	printFlash(line, i)
	if err := w.Flush(); err != nil || len(i.Readers) == 0 {
		return err
	}
	fmt.Fprintln(out)
	w = table(out)
	fmt.Fprintln(w, "READER\tPRIORITY\tWAITING\tCURSOR\tOLDEST MESSAGE")
	for _, r := range i.Readers {
		oldest := "-"
		if r.Oldest != 0 {
			oldest = fmt.Sprintf("%d, %s", r.Oldest, when(r.OldestTime))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", escaped(r.Name), r.Priority, r.Depth, r.Cursor, oldest)
	}
	return w.Flush()
}

// printFlash prints the wear that the journal causes. The rate is of the journal's whole life.
func printFlash(line func(key, format string, args ...any), i journal.Info) {
	l := i.Ledger
	if l.Since.IsZero() {
		return
	}
	line("flash", "%s and %s since %s", sizeOf(int64(l.Bytes)), plural(l.Syncs, "sync", "syncs"), l.Since.Format(time.DateTime))
	if perDay := l.PerDay(time.Now()); perDay > 0 && i.Capacity > 0 {
		line("", "%s a day: a card of %s lasts for about %.0f years of that", sizeOf(int64(perDay)), sizeOf(i.Capacity),
			journal.Lifetime(perDay, uint64(i.Capacity)).Hours()/24/365)
	}
}

func journalListCommand(p *place) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "A line for each segment: messages, times, bytes, and the readers that they are queued for",
		Long: "Times with a question mark are from a clock that was not synchronised. Files without numbers\n" +
			"hold nothing that is needed and are kept for their next use.",
		Args: noArgs,
		RunE: p.look(func(c *cobra.Command, v *journal.View) error {
			w := table(c.OutOrStdout())
			fmt.Fprintln(w, "SEGMENT\tMESSAGES\tFROM\tTO\tUSED\tSIZE\tWAITED FOR BY")
			for _, s := range v.Segments() {
				if s.Unused {
					fmt.Fprintf(w, "%s\t-\t-\t-\t-\t%s\t-\n", s.Name, sizeOf(s.Size))
					continue
				}
				messages := "none"
				if s.Next > s.Base {
					messages = fmt.Sprintf("%d..%d", s.Base, s.Next-1)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, messages, when(s.From), when(s.To),
					sizeOf(s.Used), sizeOf(s.Size), counts(s.Waiting))
			}
			return w.Flush()
		}),
	}
}

// counts writes numbers by reader, in the order of names.
func counts(m map[string]uint64) string {
	var parts []string
	for name, n := range m {
		parts = append(parts, fmt.Sprintf("%s %d", name, n))
	}
	if len(parts) == 0 {
		return "-"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func journalLossesCommand(p *place) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "losses",
		Short: "What was dropped or damaged: ranges of messages by reader, with reason and time",
		Long: "First and last are numbers of the journal, messages how many between them the reader was owed. Readings are the\n" +
			"numbers of this device's readings among them, as they stand in payloads. 1,000 ranges are kept; beyond that, the\n" +
			"oldest are joined. Where the journal was damaged, emptied or went back in time, an unknown number from first on is lost\n" +
			"(JSON: count 0, reason unknown). A reader without a name stands for damage to messages whose readers are unknown.",
		Args: noArgs,
		RunE: p.look(func(c *cobra.Command, v *journal.View) error {
			if asJSON {
				return lossesJSON(c.OutOrStdout(), v.Losses())
			}
			if len(v.Losses()) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "nothing was lost")
				return nil
			}
			w := table(c.OutOrStdout())
			fmt.Fprintln(w, "READER\tFIRST\tLAST\tMESSAGES\tREADINGS\tREASON\tTIME")
			for _, l := range v.Losses() {
				reader := escaped(l.Reader)
				if reader == "" {
					reader = "-"
				}
				readings := "-"
				if n := l.Numbers; n.Count > 0 {
					readings = fmt.Sprintf("%d of %d..%d", n.Count, n.First, n.Last)
				}
				count := strconv.FormatUint(l.Count, 10)
				if l.Reason == journal.ReasonUnknown && l.Count == 0 {
					count = "an unknown number"
				}
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", reader, l.First, l.Last, count, readings, l.Reason, l.Time.Format(time.DateTime))
			}
			return w.Flush()
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "a JSON object for each range, one a line")
	return c
}

// unknownNumber describes a loss of an unknown number of messages. of is the reader, or empty.
func unknownNumber(of string) string {
	if of != "" {
		of = " of " + of
	}
	return "an unknown number of messages" + of + ": the journal was damaged, emptied or went back in time"
}

// unknownOf returns the readers that have lost an unknown number of messages, each once.
func unknownOf(losses []journal.Loss) (readers []string) {
	for _, l := range losses {
		if l.Reason == journal.ReasonUnknown && !slices.Contains(readers, l.Reader) {
			readers = append(readers, l.Reader)
		}
	}
	return readers
}

func lossesJSON(w io.Writer, losses []journal.Loss) error {
	enc := json.NewEncoder(w)
	for _, l := range losses {
		var readings *verify.Numbers
		if n := l.Numbers; n.Count > 0 {
			readings = &verify.Numbers{First: n.First, Last: n.Last, Count: n.Count}
		}
		err := enc.Encode(struct {
			ID       uint64          `json:"id"`
			Reader   string          `json:"reader"`
			First    uint64          `json:"first"`
			Last     uint64          `json:"last"`
			Count    uint64          `json:"count"`
			Reason   string          `json:"reason"`
			Time     time.Time       `json:"time"`
			Readings *verify.Numbers `json:"readings,omitempty"`
		}{l.ID, l.Reader, l.First, l.Last, l.Count, l.Reason, l.Time, readings})
		if err != nil {
			return err
		}
	}
	return nil
}
