package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/sensors/outputs"
)

// maxCommand is the longest payload of a command, in bytes.
const maxCommand = 4 << 10

// commandPayload is the JSON form of a command. Everything but value may be left out. A reading has it, too.
type commandPayload struct {
	Value   json.RawMessage `json:"value"`   // true, false, a number, or one of them as text
	ID      string          `json:"id"`      // at most once: a second command with it is refused
	Seq     json.RawMessage `json:"seq"`     // a reading's number: with its time the id, where there is none
	Time    *time.Time      `json:"time"`    // when it was sent, or measured
	Expires *time.Time      `json:"expires"` // when it is not to be carried out any more
	Lease   string          `json:"lease"`   // a duration such as "60s"
	By      string          `json:"by"`      // who sends it; appears in the state
}

// commandKeys are the keys of commandPayload, and ignoredKeys those of what this gateway publishes that say nothing to an
// output: the others of readings and of states.
var (
	commandKeys = []string{"value", "id", "seq", "time", "expires", "lease", "by"}
	ignoredKeys = []string{"unit", "since", "why", "waiting"}
)

// maxName is the longest id or by of a command, in bytes.
const maxName = 128

// parsed is a command as its message has it.
type parsed struct {
	outputs.Command
	text    string     // the value as the sender wrote it, in the words that outputs know
	once    string     // what is remembered so that it is carried out once; empty for nothing
	sent    *time.Time // by the sender's clock
	unknown []string   // keys without a meaning, sorted
}

// parseCommand reads a command, or a reading, for an output. With an error, which is the reason for which it is
// refused, the command has an id as far as that is known.
func parseCommand(m *broker.Message, c *outputs.Config, f freshness) (cmd parsed, err error) {
	var p commandPayload
	if err := checkSize(m); err != nil {
		return cmd, err
	}
	cmd.text = strings.TrimSpace(string(m.Payload))
	if strings.HasPrefix(cmd.text, "{") {
		cmd.text, err = p.decode(m.Payload)
		cmd.ID = p.ID
		cmd.unknown = p.unknown(m.Payload)
		if err != nil {
			return cmd, err
		}
	}
	cmd.text = switchWord(cmd.text)
	cmd.Why, cmd.sent, cmd.once = p.By, p.Time, p.once()
	if cmd.ID == "" {
		cmd.ID = p.seq()
	}
	if p.Lease != "" {
		cmd.Lease, err = time.ParseDuration(p.Lease)
		if err != nil || cmd.Lease <= 0 {
			return cmd, fmt.Errorf(`lease: got %.40q, want a duration such as "60s"`, p.Lease)
		}
	}
	return cmd, checkFreshness(m, c, &p, cmd.once, f)
}

// switchWord returns on or off for the words in which sensors and switches say it, and any other text as it is.
func switchWord(text string) string {
	switch word := strings.ToLower(text); word {
	case "on", "true", "pressed":
		return "on"
	case "off", "false", "released":
		return "off"
	}
	return text
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
	if err := d.Decode(p); err != nil {
		return "", fmt.Errorf("JSON: %s: want value, id, time, expires, lease and by", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("JSON: something follows the object")
	}
	for _, name := range []struct{ key, text string }{{"id", p.ID}, {"by", p.By}, {"seq", p.seq()}} {
		if len(name.text) > maxName {
			p.ID, p.Seq = "", nil
			return "", fmt.Errorf("%s: %d bytes, want at most %d", name.key, len(name.text), maxName)
		}
	}
	if len(p.Value) == 0 || string(p.Value) == "null" {
		if unknown := p.unknown(payload); len(unknown) > 0 {
			return "", fmt.Errorf("value: missing; unknown: %s", strings.Join(unknown, ", "))
		}
		return "", errors.New("value: missing")
	}
	if json.Unmarshal(p.Value, &text) != nil {
		text = string(p.Value)
	}
	return text, nil
}

// unknown returns keys that mean nothing here, shortened: the first ones of many.
func (p *commandPayload) unknown(payload []byte) (list []string) {
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &all) != nil {
		return nil // reported by decode
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		is := func(known string) bool { return strings.EqualFold(key, known) }
		if len(list) < 8 && !slices.ContainsFunc(commandKeys, is) && !slices.ContainsFunc(ignoredKeys, is) {
			list = append(list, fmt.Sprintf("%.40q", key))
		}
	}
	return list
}

// seq returns the number of a reading as text.
func (p *commandPayload) seq() string {
	text := strings.Trim(string(p.Seq), `"`)
	if text == "null" {
		return ""
	}
	return text
}

// once returns what tells a command from every other one of its output: its id. Two sensors may give the same number,
// and one sensor the same after its gateway has lost its memory; not at the same time.
func (p *commandPayload) once() string {
	switch seq := p.seq(); {
	case p.ID != "":
		return p.ID
	case seq != "" && p.Time != nil:
		return "reading " + seq + " of " + p.Time.UTC().Format(time.RFC3339Nano)
	case seq != "":
		return "reading " + seq
	}
	return ""
}
