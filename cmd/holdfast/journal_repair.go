package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/broker/journal"
)

func journalVerifyCommand(p *place) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Read the whole journal and report what is damaged; exit code 1 if anything is",
		Args:  noArgs,
		RunE: p.look(func(c *cobra.Command, v *journal.View) error {
			var end func()
			v.Progress, end = progress("verifying")
			r, err := v.Verify()
			end()
			if err != nil {
				return err
			}
			printReport(c.OutOrStdout(), r)
			if !r.Damaged() {
				return nil
			}
			return errors.New("the journal is damaged: the gateway can go on with it as it is;" +
				" to set the damage aside, stop it and call 'holdfast journal repair'")
		}),
	}
}

func printReport(w io.Writer, r *journal.Report) {
	for _, d := range r.Damage {
		fmt.Fprintln(w, damage(d))
	}
	if r.Torn > 0 {
		fmt.Fprintf(w, "%s at the end are of a batch that was never acknowledged: nothing is lost with them\n", sizeOf(r.Torn))
	}
	for _, name := range r.Foreign {
		fmt.Fprintf(w, "%s: no file of the journal, left alone\n", name)
	}
	for _, name := range r.Aside {
		fmt.Fprintf(w, "%s: set aside earlier; remove it when it is no longer needed\n", name)
	}
	places := 0
	for _, d := range r.Damage {
		if !d.Known {
			places++
		}
	}
	found := "no damage"
	if places > 0 {
		found = plural(uint64(places), "damaged place", "damaged places")
	}
	fmt.Fprintf(w, "%s read, %s of which %s, %s: %s\n", sizeOf(r.Bytes), plural(r.Records, "record", "records"),
		plural(r.Messages, "is a message", "are messages"), plural(uint64(r.Snapshots), "snapshot", "snapshots"), found)
}

// damage describes one place: file, offset, bytes, what, and which messages.
func damage(d journal.Damage) string {
	s := d.File
	if !d.Segment {
		s += fmt.Sprintf(": at %d", d.Offset)
	}
	if d.Bytes > 0 {
		s += fmt.Sprintf(": %d bytes", d.Bytes)
	}
	s += ": " + d.What
	switch {
	case d.First != 0 && d.First == d.Last:
		s += fmt.Sprintf(": message %d is missing", d.First)
	case d.First != 0:
		s += fmt.Sprintf(": messages %d to %d are missing", d.First, d.Last)
	case !d.Segment:
		s += ": no message is missing"
	}
	if len(d.Affected) > 0 {
		s += fmt.Sprintf("; owed in all of this file: %s", counts(d.Affected))
	}
	if d.Known {
		s += " (repaired)"
	}
	return s
}

func journalRepairCommand(p *place) *cobra.Command {
	return &cobra.Command{
		Use:   "repair",
		Short: "Set aside what is damaged, while the gateway is stopped; nothing is deleted",
		Long: "A file that cannot be used is renamed to *.damaged. Of a segment with damaged records a copy is kept\n" +
			"under that name, and everything that can be read stays where it was. What is lost is named here, and\n" +
			"by 'holdfast journal losses' when its readers come to it.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := p.dir()
			if err != nil {
				return err
			}
			show, end := progress("verifying")
			done, err := journal.Repair(dir, show)
			end()
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			printReport(out, done.Found)
			for _, file := range slices.Sorted(maps.Keys(done.Aside)) {
				fmt.Fprintf(out, "%s: kept as %s\n", file, done.Aside[file])
			}
			for _, l := range done.New {
				owed := "readers unknown"
				if l.Reader != "" {
					owed = "owed to " + escaped(l.Reader)
				}
				fmt.Fprintf(out, "lost: %s from %d to %d, %s\n", plural(l.Count, "message", "messages"), l.First, l.Last, owed)
			}
			if done.Found.Damaged() {
				fmt.Fprintln(out, "repaired")
			} else {
				fmt.Fprintln(out, "nothing to repair")
			}
			return nil
		},
	}
}

func journalForgetCommand(p *place) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "forget READER",
		Short: "Remove a reader, and what only it was owed, while the gateway is stopped",
		Long: "For a bridge that is no longer in the configuration, or a session whose client never comes back.\n" +
			"What the reader waited for is given up on purpose: it does not count as lost.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s: got %d arguments, want the name of one reader: see 'holdfast journal info'", c.CommandPath(), len(args))}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			v, err := p.view()
			if err != nil {
				return err
			}
			sel := selection{reader: name}
			if err := sel.check(v); err != nil {
				return errors.New(strings.TrimPrefix(err.Error(), "--"))
			}
			if !yes {
				for _, r := range v.Readers() {
					if r.Name == name {
						return usageError{fmt.Errorf("reader %s waits for %s, which would be given up: call again with --yes",
							name, plural(r.Depth, "message", "messages"))}
					}
				}
			}
			dir, err := p.dir()
			if err != nil {
				return err
			}
			f, err := journal.Forget(dir, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "reader %s is forgotten: %s given up, %s freed\n", name,
				plural(f.Depth, "message", "messages"), sizeOf(f.Freed))
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "give up what the reader waits for")
	return c
}
