package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/sensors/outputs"
)

// maxCommand is the longest payload of a command, in bytes.
const maxCommand = 4 << 10

// commandPayload is the JSON form of a command. Everything but value may be left out.
type commandPayload struct {
	Value   json.RawMessage `json:"value"`   // true, false, a number, or one of them as text
	ID      string          `json:"id"`      // at most once: a second command with it is refused
	Time    *time.Time      `json:"time"`    // when it was sent
	Expires *time.Time      `json:"expires"` // when it is not to be carried out any more
	Lease   string          `json:"lease"`   // a duration such as "60s"
	By      string          `json:"by"`      // who sends it; appears in the state
}

// maxName is the longest id or by of a command, in bytes.
const maxName = 128

// freshness is what is known of a command's age.
type freshness struct {
	now         time.Time
	clockSynced bool          // whether now can be trusted (adjtimex(2))
	age         time.Duration // since the gateway took the command
	ageKnown    bool

	// After the journal has lost an unknown number of messages, which commands were carried out is not known.
	forgotten   bool          // the command came before that
	interrupted bool          // it has happened
	since       time.Duration // how long ago that was, or less
}

// parseCommand reads a command for an output. text is the value as the sender wrote it. The error is
// the reason for which it is refused.
func parseCommand(m *broker.Message, c *outputs.Config, f freshness) (cmd outputs.Command, text string, err error) {
	var p commandPayload
	if err := checkSize(m); err != nil {
		return cmd, "", err
	}
	text = strings.TrimSpace(string(m.Payload))
	if strings.HasPrefix(text, "{") {
		if text, err = p.decode(m.Payload); err != nil {
			return outputs.Command{ID: p.ID}, "", err
		}
	}
	cmd = outputs.Command{ID: p.ID, Why: p.By}
	if p.Lease != "" {
		cmd.Lease, err = time.ParseDuration(p.Lease)
		if err != nil || cmd.Lease <= 0 {
			return cmd, "", fmt.Errorf(`lease: got %.40q, want a duration such as "60s"`, p.Lease)
		}
	}
	return cmd, text, checkFreshness(m, c, &p, f)
}

// checkSize refuses a command that is longer than maxCommand.
func checkSize(m *broker.Message) error {
	if n := len(m.Payload); n > maxCommand {
		return fmt.Errorf("%d bytes, want at most %d", n, maxCommand)
	}
	return nil
}

func (p *commandPayload) decode(payload []byte) (text string, err error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return "", fmt.Errorf("JSON: %s: want value, id, time, expires, lease and by", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("JSON: something follows the object")
	}
	for _, name := range []struct{ key, text string }{{"id", p.ID}, {"by", p.By}} {
		if len(name.text) > maxName {
			p.ID = ""
			return "", fmt.Errorf("%s: %d bytes, want at most %d", name.key, len(name.text), maxName)
		}
	}
	if len(p.Value) == 0 || string(p.Value) == "null" {
		return "", errors.New("value: missing")
	}
	if json.Unmarshal(p.Value, &text) != nil {
		text = string(p.Value)
	}
	return text, nil
}

// checkFreshness refuses a command that is too old, or may be.
func checkFreshness(m *broker.Message, c *outputs.Config, p *commandPayload, f freshness) error {
	switch {
	case m.Retain:
		return errors.New("retained: it would be carried out again at every start: publish commands without retain")
	case f.forgotten:
		return errors.New("it may have been carried out already: the journal has lost an unknown number of messages since it came: send a new one with a new id")
	case !f.ageKnown:
		return errors.New("too old, perhaps: it came before the machine's last start, and the clock was not set then or is not now")
	case f.age > c.CommandExpiry:
		return fmt.Errorf("too old: it came %v ago, want at most %v (command_expiry)", f.age.Round(time.Second), c.CommandExpiry)
	case m.Expires && f.age >= time.Duration(m.Expiry)*time.Second:
		return fmt.Errorf("too old: its message expiry interval of %d s is over", m.Expiry)
	case c.RequireTime && p.Time == nil && p.Expires == nil && !m.Expires:
		return errors.New("it does not say how old it is, want time, expires or a message expiry interval (require_time)")
	case (p.Time != nil || p.Expires != nil) && !f.clockSynced:
		return errors.New("the gateway's clock is not set, so the age of a command with time or expires is not known")
	}
	if p.Time != nil {
		switch age := f.now.Sub(*p.Time); {
		case age > c.CommandExpiry:
			return fmt.Errorf("too old: sent %v ago, want at most %v (command_expiry)", age.Round(time.Second), c.CommandExpiry)
		case age < -c.CommandExpiry:
			return fmt.Errorf("sent %v from now: the sender's clock or the gateway's is wrong", -age.Round(time.Second))
		}
	}
	// A sender that sends a command again does so while it is fresh. Of those that are old enough to have come before the
	// journal lost its memory, the ids may be forgotten.
	if sent := p.Time; p.ID != "" && f.interrupted && f.since < c.CommandExpiry && (sent == nil || f.now.Sub(*sent) >= f.since) {
		return fmt.Errorf("id %q: it may have been taken before: the journal has lost an unknown number of messages, %v ago: send a new command with a new id and a time, or after command_expiry (%v)",
			p.ID, f.since.Round(time.Second), c.CommandExpiry)
	}
	if p.Expires != nil && !f.now.Before(*p.Expires) {
		return fmt.Errorf("too old: expired %v ago", f.now.Sub(*p.Expires).Round(time.Second))
	}
	return nil
}

// clockSynced reports whether the kernel's clock is synchronised.
func clockSynced() bool {
	_, synced := journal.Now()
	return synced
}
