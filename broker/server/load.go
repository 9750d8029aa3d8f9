package server

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/broker/journal"
)

// loadPackets calls f for each stored packet identifier of a session, in keys of this or of earlier versions. It
// replaces old keys, and removes those of deleted sessions, so that no later session finds them.
func (s *Server) loadPackets(prefix, old string, f func(x *session, id uint16, value []byte)) {
	byNumber := map[string]*session{}
	for _, x := range s.sessions.byID {
		byNumber[strconv.FormatUint(x.reader.ID(), 10)] = x
	}
	var changes []journal.Change
	s.journal.Range(prefix, func(key string, value []byte) bool {
		number, packet, _ := strings.Cut(key[len(prefix):], "/")
		id, err := strconv.ParseUint(packet, 10, 16)
		if x := byNumber[number]; x != nil && err == nil {
			f(x, uint16(id), value)
		} else {
			changes = append(changes, journal.Change{Key: key})
		}
		return true
	})
	s.journal.Range(old, func(key string, value []byte) bool {
		name, packet, _ := strings.Cut(key[len(old):], "\x00")
		changes = append(changes, journal.Change{Key: key})
		if x := s.sessions.byID[name]; x != nil && len(packet) == 2 {
			id := binary.BigEndian.Uint16([]byte(packet))
			f(x, id, value)
			changes = append(changes, journal.Change{Key: x.packetKey(prefix, id), Value: value})
		}
		return true
	})
	s.changeKeys(changes)
}

// changeKeys appends changes at the start, in parts.
func (s *Server) changeKeys(changes []journal.Change) {
	for part := range slices.Chunk(changes, 256) { // an old key and its successor may stand in two parts: then both are read
		s.journal.WaitForRoom()
		if err := s.journal.Append(journal.Entry{Changes: part}); err != nil {
			s.log.Error("keys of packet identifiers are not replaced; the next start tries again", "error", err)
			return
		}
	}
}

// loadSessions rebuilds the sessions that outlive their connections. It logs and skips a part of a session that
// it cannot decode.
func (s *Server) loadSessions() error {
	state := func(prefix string, f func(id, rest string, value []byte)) {
		type pair struct {
			key   string
			value []byte
		}
		var pairs []pair
		s.journal.Range(prefix, func(key string, value []byte) bool {
			pairs = append(pairs, pair{key[len(prefix):], value})
			return true
		})
		for _, p := range pairs {
			id, rest, _ := strings.Cut(p.key, "\x00")
			f(id, rest, p.value)
		}
	}
	var failed error
	state(sessionKey, func(id, _ string, value []byte) {
		x, err := s.newSession(id, "", true)
		if err != nil {
			failed = err
			return
		}
		x.decode(value)
		x.away.expiry = s.capExpiry(x.away.expiry)
	})
	if failed != nil {
		return failed
	}
	damaged := func(id, what string, value []byte) {
		s.log.Error("damaged state of a session is ignored", "client", id, "part", what, "value", fmt.Sprintf("%x", value))
	}
	state(subKey, func(id, filter string, value []byte) {
		x := s.sessions.byID[id]
		if x == nil {
			return // a leftover of a session that was being forgotten
		}
		sub, err := decodeSubscription(value)
		if err != nil {
			damaged(id, "subscription "+filter, value)
			return
		}
		x.restoreSubscription(filter, sub)
	})
	var forgotten []journal.Change
	received := func(x *session, id uint16, value []byte) {
		// Of a journal that lost its memory since, the client may have released it and may use it for a new message.
		if epoch, _ := binary.Uvarint(value); epoch < s.journal.Interruption().Epoch {
			forgotten = append(forgotten, journal.Change{Key: x.packetKey(receivedKey, id)})
			return
		}
		x.received.restore(id)
	}
	delivered := func(x *session, id uint16, value []byte) {
		f, err := decodeFlight(id, value)
		if err != nil {
			damaged(x.id, "delivery", value)
			return
		}
		x.restore(f)
	}
	s.loadPackets(receivedKey, oldReceivedKey, received)
	s.changeKeys(forgotten)
	s.loadPackets(deliveredKey, oldDeliveredKey, delivered)
	for _, r := range s.journal.Readers() {
		if id, ok := strings.CutPrefix(r.Name, sessionKey); ok && s.sessions.byID[id] == nil {
			if err := s.journal.DiscardReader(r.Name, reasonEnded); err != nil {
				return err
			}
		}
	}
	for _, x := range s.sessions.byID {
		x.orderFlights()
		x.stow()
		if x.away.expiry == 0 { // was to end with a connection that did not survive
			s.discard(x, reasonEnded)
		} else {
			x.scheduleExpiry()
		}
	}
	return nil
}
