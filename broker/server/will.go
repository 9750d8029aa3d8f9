package server

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/auth"
	"holdfast/broker/journal"
	"holdfast/broker/server/limits"
	"holdfast/broker/wire"
)

// willKey is the prefix of the journal's key of a will, stored from before CONNACK until it is published
// or cancelled. The client identifier, a NUL and a random text follow, which distinguishes a client's wills.
const willKey = "will/"

// willTimeout is how long a CONNECT waits for the disk to have its will. A disk that stands still must not keep
// clients out.
const willTimeout = 2 * time.Second

// will is a client's will, with what it takes to publish it when the client is gone.
type will struct {
	*wire.Will
	client  string
	user    string      // counts in this user's share of broker.limits.wills
	counted bool        // it counts now
	grant   *auth.Grant // of its login; checked again when it is published
	key     string      // in the journal; empty if it is not there
}

// wills counts the bytes of all clients' wills, by user.
type wills struct {
	limits.Account
	due []*will // of the last process's clients, for Run to publish
}

// storeWill returns when the will is on disk, so that it outlives a crash from CONNACK on [MQTT-3.1.2-7]. One commit
// takes those of all clients that connect at the time. A will that cannot be stored is in memory alone.
func (s *Server) storeWill(w *will) {
	if isSys(w.Topic) {
		return // of this process's life, like all of $SYS
	}
	w.key = willKey + w.client + "\x00" + rand.Text()
	done := make(onDisk, 1)
	err := s.journal.Append(journal.Entry{Changes: []journal.Change{{Key: w.key, Value: w.encode()}}, Done: done})
	if err == nil {
		timer := time.NewTimer(willTimeout)
		defer timer.Stop()
		select {
		case err = <-done:
		case <-timer.C:
			err = errors.New("the disk does not answer")
		}
	}
	if err != nil {
		s.log.Warn("a will is in memory only and would not survive a restart", "client", w.client, "error", err)
	}
}

// onDisk receives the outcome of one entry. It has room for it.
type onDisk chan error

func (d onDisk) Committed(_ *journal.Entry, _ uint64, err error) { d <- err }

// forgetWill removes a cancelled will from the journal: at once, because after a crash it would be published.
func (s *Server) forgetWill(w *will) {
	if w != nil {
		s.uncount(w)
		s.removeWill(w)
	}
}

// uncount gives back what a will takes of broker.limits.wills, once.
func (s *Server) uncount(w *will) {
	if w != nil && w.counted {
		w.counted = false
		s.dropWill(w.user, w.Will)
	}
}

// removeWill removes a will from the journal.
func (s *Server) removeWill(w *will) {
	if w.key == "" {
		return
	}
	err := s.journal.Append(journal.Entry{Changes: []journal.Change{{Key: w.key}}})
	if err != nil && !errors.Is(err, journal.ErrClosed) {
		s.log.Error("a cancelled will is still in the journal", "client", w.client, "error", err)
	}
}

// publishWill publishes a will, if there is one and its client may still publish it: the right was not withdrawn, and
// the user was not deleted and has the same password.
func (s *Server) publishWill(w *will) {
	if w == nil {
		return
	}
	s.uncount(w)
	m := &broker.Message{
		Topic: w.Topic, Payload: w.Payload, Properties: w.Forward,
		QoS: w.QoS, Retain: w.Retain, Expires: w.Expires, Expiry: w.Expiry,
	}
	switch {
	case w.grant.Revoked() || !isSys(w.Topic) && !w.grant.MayWrite(w.Topic):
		s.counts.dropped.denied.Add(1)
		s.log.Warn("will is not published: its client may not publish there any more", "client", w.client, "owner", w.grant.Owner().String(), "topic", w.Topic)
		s.removeWill(w)
		return
	case isSys(w.Topic):
		m.Retain = false // its connection has ended, and what is retained there with it
		s.publishState(m)
		return
	}
	opts := PublishOptions{Client: true}
	if w.key != "" {
		opts.Changes, opts.always = []journal.Change{{Key: w.key}}, true
	}
	if err := s.Publish(m, opts); err != nil {
		s.log.Error("will is lost", "topic", m.Topic, "error", err)
		s.removeWill(w)
	}
}

// The value of a will: 1, user and common name of its owner, the proof of the login, and a CONNECT of 5.0 that holds
// the will.
func (w *will) encode() []byte {
	o, proof := w.grant.Owner(), w.grant.Proof()
	b := appendText(appendText([]byte{1}, o.User), o.CN)
	b = append(b, proof[:]...)
	return wire.Append(b, wire.V5, &wire.Connect{Version: wire.V5, Will: w.Will})
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cutText reads what appendText wrote.
func cutText(b []byte) (s string, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, false
	}
	return string(b[n : n+int(size)]), b[n+int(size):], true
}

func (s *Server) decodeWill(key string, b []byte) (*will, error) {
	client, _, _ := strings.Cut(strings.TrimPrefix(key, willKey), "\x00")
	if len(b) == 0 || b[0] != 1 {
		return nil, errors.New("unknown version")
	}
	var o auth.Owner
	var proof auth.Proof
	user, b, ok := cutText(b[1:])
	o.User = user
	if ok {
		o.CN, b, ok = cutText(b)
	}
	if !ok || len(b) < len(proof) {
		return nil, errors.New("it ends early")
	}
	copy(proof[:], b)
	b = b[len(proof):]
	raw, n, err := wire.Split(b, 0)
	if err != nil || n != len(b) {
		return nil, fmt.Errorf("no packet: %d bytes, %w", len(b), err)
	}
	p, err := raw.Packet(wire.V5)
	if err != nil {
		return nil, err
	}
	c, ok := p.(*wire.Connect)
	if !ok || c.Will == nil || broker.CheckTopic(c.Will.Topic) != nil {
		return nil, errors.New("no will")
	}
	if user = o.User; user == "" {
		user = o.CN
	}
	return &will{c.Will, client, user, true, s.opts.Auth.Restore(o, client, proof), key}, nil
}

// loadWills loads the wills of clients that were connected, or away for less than their delay, when the last
// process ended: that ended their connections. A will with a delay whose session continues starts its delay now,
// because no clock knows how long the power was off; Run publishes the others [MQTT-3.1.2-8].
func (s *Server) loadWills() {
	s.journal.Range(willKey, func(key string, value []byte) bool {
		w, err := s.decodeWill(key, value)
		if err != nil {
			s.log.Error("a stored will is ignored: it cannot be read", "key", fmt.Sprintf("%q", key), "error", err)
			return true
		}
		// It was taken under a limit before, and is not refused now.
		s.wills.Add(w.user, willWeight(w.Will))
		if x := s.sessions.byID[w.client]; x != nil && w.Delay > 0 && x.away.will == nil {
			x.delayWill(w)
		} else {
			s.wills.due = append(s.wills.due, w)
		}
		return true
	})
}
