package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"holdfast/broker/journal"
)

func journalCatCommand(p *place) *cobra.Command {
	var sel selection
	var kinds []string
	c := &cobra.Command{
		Use:   "cat",
		Short: "The journal's records, for people",
		Long: "A line for each record: sequence number, time, kind and content. Times with a question mark are\n" +
			"from a clock that was not synchronised. For programs, see export.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, k := range kinds {
				if !slices.Contains(journal.RecordKinds, k) {
					return usageError{fmt.Errorf("--kind %s: no such kind: there are: %s", k, strings.Join(journal.RecordKinds, ", "))}
				}
			}
			v, err := p.view()
			if err != nil {
				return err
			}
			return showRecords(c, v, &sel, "reading", func(out io.Writer, r *journal.Record) error {
				switch {
				case len(kinds) > 0 && !slices.Contains(kinds, r.Kind),
					r.Kind == "message" && !sel.matches(r, false),
					r.Kind != "message" && sel.topic != "",
					r.Kind != "message" && sel.reader != "" && r.Reader != sel.reader:
					return nil
				}
				_, err := fmt.Fprintf(out, "%8d  %s  %-7s  %s\n", r.Seq, when(r.Time), r.Kind, describe(r))
				return err
			})
		},
	}
	sel.flags(c)
	c.Flags().StringSliceVar(&kinds, "kind", nil, "only records of `KIND`: "+strings.Join(journal.RecordKinds, ", "))
	return c
}

// showRecords calls show for every selected record and sends what it writes to stdout, in bounded memory.
func showRecords(c *cobra.Command, v *journal.View, sel *selection, what string, show func(io.Writer, *journal.Record) error) error {
	if err := sel.check(v); err != nil {
		return err
	}
	var end func()
	v.Progress, end = progress(what)
	out := bufio.NewWriterSize(c.OutOrStdout(), 64<<10)
	err := v.Records(sel.records, func(r *journal.Record) error {
		if err := c.Context().Err(); err != nil {
			return err
		}
		return show(out, r)
	})
	end()
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if v.Recycled > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "%s left out: the gateway dropped or settled them meanwhile\n",
			plural(uint64(v.Recycled), "segment", "segments"))
	}
	return err
}

// describe writes the content of a record in one line.
func describe(r *journal.Record) string {
	switch r.Kind {
	case "message":
		m := r.Message
		s := fmt.Sprintf("%s  %s", escaped(m.Topic), show(m.Payload))
		if r.Retained {
			s += "  retained"
		}
		for _, o := range r.Owed {
			switch {
			case o.Reader == "":
			case o.Waits:
				s += fmt.Sprintf("  %s:waits", escaped(o.Reader))
			default:
				s += fmt.Sprintf("  %s:done", escaped(o.Reader))
			}
		}
		return s + changes(r.Changes)
	case "state":
		return strings.TrimSpace(changes(r.Changes))
	case "ack":
		return fmt.Sprintf("%s  %s", escaped(r.Reader), acknowledged(r.Ack))
	case "loss":
		return fmt.Sprintf("%s  lost %d messages from %d to %d: %s  %s",
			escaped(r.Reader), r.Loss.Count, r.Loss.First, r.Loss.Last, r.Loss.Reason, acknowledged(r.Ack))
	default:
		if r.Time.Synced {
			return "synchronised"
		}
		return "not synchronised"
	}
}

func acknowledged(a journal.AckView) string {
	s := fmt.Sprintf("all below %d", a.Top)
	if len(a.Unacked) > 0 {
		s += fmt.Sprintf(" but %d", a.Unacked)
	}
	return s
}

func changes(list []journal.Change) (s string) {
	for _, c := range list {
		if c.Value == nil {
			s += fmt.Sprintf("  delete %s", escaped(c.Key))
		} else {
			s += fmt.Sprintf("  set %s=%s", escaped(c.Key), show(c.Value))
		}
	}
	return s
}

// show writes bytes so that no terminal is harmed, and no line is endless.
func show(b []byte) string {
	const most = 200
	cut := ""
	if len(b) > most {
		cut = fmt.Sprintf("... (%d bytes)", len(b))
		b = b[:most]
	}
	if utf8.Valid(b) && !slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c == 0x7f }) {
		return string(b) + cut
	}
	return strconv.Quote(string(b)) + cut
}

func journalExportCommand(p *place) *cobra.Command {
	var sel selection
	var all bool
	c := &cobra.Command{
		Use:   "export",
		Short: "Messages as JSON lines: those queued for a reader, or --all",
		Long: "A JSON object for each message, one a line, oldest first:\n" +
			`  {"seq":7,"time":"2026-11-22T10:00:00.123Z","synced":true,"topic":"a/b","qos":1,"retain":false,"payload":"21.4","owed":["bridge/cloud"]}` + "\n" +
			"A payload that is no UTF-8 text is in payload_base64 instead. owed names the readers that have not\n" +
			"acknowledged the message. synced is true if time is from a synchronised clock.",
		Args: noArgs,
		RunE: p.look(func(c *cobra.Command, v *journal.View) error {
			return showRecords(c, v, &sel, "exporting", func(out io.Writer, r *journal.Record) error {
				if r.Kind != "message" || !sel.matches(r, !all) {
					return nil
				}
				return exportMessage(out, r)
			})
		}),
	}
	sel.flags(c)
	c.Flags().BoolVar(&all, "all", false, "also what was acknowledged, as far as it is still there")
	return c
}

// exported is a message as export writes it: a contract with those who read it.
type exported struct {
	Seq           uint64    `json:"seq"`
	Time          time.Time `json:"time"`
	Synced        bool      `json:"synced"`
	Topic         string    `json:"topic"`
	QoS           byte      `json:"qos"`
	Retain        bool      `json:"retain"`
	Payload       *string   `json:"payload,omitempty"`
	PayloadBase64 string    `json:"payload_base64,omitempty"`
	Owed          []string  `json:"owed"`
}

func exportMessage(out io.Writer, r *journal.Record) error {
	m := r.Message
	e := exported{
		Seq: r.Seq, Time: r.Time.Wall.UTC(), Synced: r.Time.Synced, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Owed: []string{},
	}
	if utf8.Valid(m.Payload) {
		text := string(m.Payload)
		e.Payload = &text
	} else {
		e.PayloadBase64 = base64.StdEncoding.EncodeToString(m.Payload)
	}
	for _, o := range r.Owed {
		if o.Waits && o.Reader != "" {
			e.Owed = append(e.Owed, o.Reader)
		}
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(e)
}
