package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"holdfast/broker/journal"
	"holdfast/gateway/uplinks"
)

func journalDeadCommand(p *place) *cobra.Command {
	var bridge string
	var asJSON bool
	c := &cobra.Command{
		Use:   "dead",
		Short: "Messages that an upstream has refused for good, with the reason",
		Long: "Dead letters are kept until journal.dead_letters is reached, or until they are deleted. They may be looked at\n" +
			"while the gateway runs; to send or delete some, stop it. A line of --json:\n" +
			`  {"seq":9,"time":"2026-11-22T10:00:00.123Z","bridge":"cloud","reason":"...","topic":"a/b","was":7,"payload":"21.4"}` + "\n" +
			"was is the journal's number of the message before it was refused, as in 'holdfast journal losses'.",
		Args: noArgs,
		RunE: p.look(func(c *cobra.Command, v *journal.View) error {
			if !slices.ContainsFunc(v.Readers(), func(r journal.ReaderInfo) bool { return r.Name == uplinks.DeadReader }) {
				if !asJSON {
					fmt.Fprintln(c.OutOrStdout(), "nothing was refused")
				}
				return nil
			}
			out := c.OutOrStdout()
			if !asJSON {
				fmt.Fprintf(out, "%-10s  %-19s  %s\n", "SEQ", "REFUSED", "BRIDGE, TOPIC, REASON, PAYLOAD")
			}
			sel := selection{reader: uplinks.DeadReader}
			return showRecords(c, v, &sel, "reading", func(out io.Writer, r *journal.Record) error {
				if r.Kind != "message" || !sel.matches(r, true) {
					return nil
				}
				l, err := uplinks.ReadDeadLetter(r.Message)
				if err != nil {
					return fmt.Errorf("%d: %w", r.Seq, err)
				}
				if bridge != "" && l.Bridge != bridge {
					return nil
				}
				if asJSON {
					return deadJSON(out, r.Seq, l)
				}
				_, err = fmt.Fprintf(out, "%-10d  %s  %s  %s  %s  %s\n", r.Seq, l.Time.Format(time.DateTime), l.Bridge, escaped(l.Message.Topic),
					show([]byte(l.Reason)), show(l.Message.Payload))
				return err
			})
		}),
	}
	c.Flags().StringVar(&bridge, "bridge", "", "only those of bridge `NAME`")
	c.Flags().BoolVar(&asJSON, "json", false, "a JSON object for each, one a line")
	c.AddCommand(
		journalSettleCommand(p, "send", "Send dead letters to their bridges once more", "sent", uplinks.SendLetter),
		journalSettleCommand(p, "delete", "Remove dead letters for good", "deleted", uplinks.DeleteLetter),
	)
	return c
}

func deadJSON(out io.Writer, seq uint64, l *uplinks.DeadLetter) error {
	line := struct {
		Seq           uint64    `json:"seq"`
		Time          time.Time `json:"time"`
		Bridge        string    `json:"bridge"`
		Reason        string    `json:"reason"`
		Topic         string    `json:"topic"`
		Was           uint64    `json:"was"`
		Payload       *string   `json:"payload,omitempty"`
		PayloadBase64 []byte    `json:"payload_base64,omitempty"`
	}{seq, l.Time.UTC(), l.Bridge, l.Reason, l.Message.Topic, l.Seq, nil, nil}
	if text := string(l.Message.Payload); utf8.ValidString(text) {
		line.Payload = &text
	} else {
		line.PayloadBase64 = l.Message.Payload
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(line)
}

// journalSettleCommand makes send and delete.
func journalSettleCommand(p *place, name, short, done string, choice uplinks.LetterChoice) *cobra.Command {
	var all bool
	var bridge string
	c := &cobra.Command{
		Use:   name + " SEQ...",
		Short: short + ", while the gateway is stopped",
		Args: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageError{fmt.Errorf("%s: want the numbers that 'holdfast journal dead' shows, or --all", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			wanted := map[uint64]bool{}
			for _, a := range args {
				seq, err := strconv.ParseUint(a, 10, 64)
				if err != nil {
					return usageError{fmt.Errorf("%q: want a number that 'holdfast journal dead' shows", a)}
				}
				wanted[seq] = true
			}
			if _, err := p.view(); err != nil { // so that none is made where there is none
				return err
			}
			dir, err := p.dir()
			if err != nil {
				return err
			}
			fs, err := journal.NewDirFS(dir)
			if err != nil {
				return err
			}
			j, err := journal.Open(journal.Options{FS: fs})
			if err != nil {
				return fmt.Errorf("%w: stop the gateway first", err)
			}
			var n uint64
			err = uplinks.SettleDeadLetters(j, func(seq uint64, l *uplinks.DeadLetter) uplinks.LetterChoice {
				if !wanted[seq] && !(all && (bridge == "" || l.Bridge == bridge)) {
					return uplinks.LeaveLetter
				}
				delete(wanted, seq)
				n++
				return choice
			})
			if err = errors.Join(err, j.Close()); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s %s\n", plural(n, "message", "messages"), done)
			for seq := range wanted {
				return fmt.Errorf("%d: no such dead letter", seq)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all of them")
	c.Flags().StringVar(&bridge, "bridge", "", "with --all: only those of bridge `NAME`")
	return c
}
