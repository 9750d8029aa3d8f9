package uplinks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// DeadReader is the reader of the journal for messages that an upstream has refused for good. Only the commands
// of `holdfast journal dead` read it.
const DeadReader = "dead"

// deadLetters keeps refused messages where everything durable is kept: in the journal, owed to a reader of
// their own, which has a limit of its own. What happened to a message goes with it as user properties, so
// that there is nothing else to keep in step.
type deadLetters struct {
	journal *journal.Journal
	limit   int64 // bytes; 0 keeps none
	log     *slog.Logger

	look   sync.Once
	before map[string]uint64 // the last message that an earlier process has kept, by bridge
}

// lastLetter, behind a bridge's name, is the key of the number of the message that was kept last, written with
// the letter. That the bridge has given the message up goes to the disk with what follows: if the process ends
// before, the message is sent and refused once more, and is here already.
const lastLetter = "/dead"

func (u *Uplinks) openDeadLetters() error {
	u.dead = &deadLetters{journal: u.journal, limit: u.opts.DeadLetters, log: u.log}
	if slices.ContainsFunc(u.journal.Readers(), func(r journal.ReaderInfo) bool { return r.Name == DeadReader }) {
		_, err := u.dead.open()
		return err
	}
	return nil
}

// open makes the reader when it is needed for the first time.
func (l *deadLetters) open() (*journal.Reader, error) {
	r, err := l.journal.OpenReader(DeadReader)
	if err != nil {
		return nil, err
	}
	r.SetLimit(max(1, l.limit))
	return r, r.SetPriority(1) // as a bridge's
}

// keep returns when the message is durable here, so that its bridge may give it up.
func (l *deadLetters) keep(bridge string, d *journal.Delivery, reason string) error {
	if l.limit == 0 {
		return nil
	}
	if l.kept(bridge) == d.Seq {
		return nil
	}
	reader, err := l.open()
	if err != nil {
		return err
	}
	letter := DeadLetter{Bridge: bridge, Reason: reason, Time: time.Now(), Seq: d.Seq, Message: d.Message}
	err = l.journal.AppendDurable(context.Background(), journal.Entry{
		Message: letter.encode(), Owed: []journal.Owed{{Reader: reader, QoS: 1, Retain: d.Retain}},
		Changes: []journal.Change{{Key: bridgeReader + bridge + lastLetter, Value: binary.BigEndian.AppendUint64(nil, d.Seq)}},
	})
	if errors.Is(err, journal.ErrTooLarge) {
		l.log.Error("a refused message is too large to be kept with the reason beside it", "bridge", bridge, "topic", d.Message.Topic, "reason", reason)
		return nil
	}
	return err
}

// kept is the message that an earlier process has kept last for a bridge; 0 if it has kept none.
func (l *deadLetters) kept(bridge string) uint64 {
	l.look.Do(func() {
		l.before = map[string]uint64{}
		l.journal.Range(bridgeReader, func(key string, value []byte) bool {
			if name, ok := strings.CutSuffix(key[len(bridgeReader):], lastLetter); ok && len(value) == 8 {
				l.before[name] = binary.BigEndian.Uint64(value)
			}
			return true
		})
	})
	return l.before[bridge]
}

// DeadLetter is a message that an upstream has refused for good.
type DeadLetter struct {
	Bridge  string
	Reason  string
	Time    time.Time // of the refusal
	Seq     uint64    // number of the message in the journal, before it was refused
	Message *broker.Message
}

// The user properties that a dead letter has behind its own, in this order.
var letterProperties = []string{"holdfast-bridge", "holdfast-reason", "holdfast-time", "holdfast-seq"}

func (l *DeadLetter) encode() *broker.Message {
	m := *l.Message
	more := wire.Forwarded{}
	values := []string{l.Bridge, l.Reason, l.Time.UTC().Format(time.RFC3339Nano), strconv.FormatUint(l.Seq, 10)}
	for i, name := range letterProperties {
		more.User = append(more.User, wire.UserProperty{Name: name, Value: values[i]})
	}
	m.Properties = more.Append(bytes.Clone(m.Properties))
	return &m
}

// ReadDeadLetter parses a message of DeadReader.
func ReadDeadLetter(m *broker.Message) (*DeadLetter, error) {
	f, err := wire.ParseForward(m.Properties)
	if err != nil {
		return nil, fmt.Errorf("dead letter: %w", err)
	}
	n := len(f.User) - len(letterProperties)
	if n < 0 || !slices.EqualFunc(f.User[n:], letterProperties, func(u wire.UserProperty, name string) bool { return u.Name == name }) {
		return nil, fmt.Errorf("dead letter: nothing says why: got user properties %v", f.User)
	}
	own := *m
	l := &DeadLetter{Bridge: f.User[n].Value, Reason: f.User[n+1].Value, Message: &own}
	l.Time, err = time.Parse(time.RFC3339Nano, f.User[n+2].Value)
	if err != nil {
		return nil, fmt.Errorf("dead letter: %w", err)
	}
	if l.Seq, err = strconv.ParseUint(f.User[n+3].Value, 10, 64); err != nil {
		return nil, fmt.Errorf("dead letter: %w", err)
	}
	f.User = f.User[:n]
	own.Properties = f.Append(nil)
	return l, nil
}

// LetterChoice is what to do with a dead letter.
type LetterChoice byte

// The choices.
const (
	LeaveLetter LetterChoice = iota
	SendLetter               // once more to its bridge
	DeleteLetter
)

// SettleDeadLetters asks about each dead letter of a journal that this process has opened. A letter that is
// sent is on disk for its bridge before it is removed here. It stops at the first error.
func SettleDeadLetters(j *journal.Journal, choose func(seq uint64, l *DeadLetter) LetterChoice) error {
	names := j.Readers()
	there := func(name string) bool {
		return slices.ContainsFunc(names, func(r journal.ReaderInfo) bool { return r.Name == name })
	}
	if !there(DeadReader) {
		return nil
	}
	dead, err := j.OpenReader(DeadReader)
	if err != nil {
		return err
	}
	dead.Attach()
	defer dead.Detach()
	for {
		d, ok, err := dead.TryNext()
		if err != nil || !ok {
			return err
		}
		l, err := ReadDeadLetter(d.Message)
		if err != nil {
			return fmt.Errorf("%d: %w", d.Seq, err)
		}
		switch choose(d.Seq, l) {
		case LeaveLetter:
			continue
		case SendLetter:
			if !there(bridgeReader + l.Bridge) {
				return fmt.Errorf("%d: there is no bridge %s any more to send it to", d.Seq, l.Bridge)
			}
			reader, err := j.OpenReader(bridgeReader + l.Bridge)
			if err != nil {
				return err
			}
			err = j.AppendDurable(context.Background(), journal.Entry{
				Message: l.Message, Owed: []journal.Owed{{Reader: reader, QoS: 1, Retain: d.Retain}},
			})
			if err != nil {
				return fmt.Errorf("%d: %w", d.Seq, err)
			}
		}
		dead.Ack(d.Seq)
	}
}
