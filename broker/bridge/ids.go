package bridge

// ids hands out packet identifiers. They go on over connections, from a random one at a start, so that an
// acknowledgement of an earlier connection fits none of this one. Those of messages that a session which goes on at the
// upstream has not acknowledged stay theirs, so that they are sent again as the same packets [MQTT-4.4.0-1].
type ids struct {
	last  uint16
	used  [1 << 16 / 64]uint64
	bySeq map[uint64]uint16 // of unacknowledged messages
	again map[uint64]bool   // of them, those that were sent by an earlier connection and not yet by this one
}

// maxUnacknowledged bounds identifiers of messages that the journal has dropped in the meantime, which ids cannot see.
const maxUnacknowledged = 1 << 14

func newIDs(last uint16) ids { return ids{last: last, bySeq: map[uint64]uint16{}} }

func (x *ids) taken(id uint16) bool { return x.used[id/64]>>(id%64)&1 != 0 }
func (x *ids) take(id uint16)       { x.used[id/64] |= 1 << (id % 64) }

func (x *ids) free(id uint16) { x.used[id/64] &^= 1 << (id % 64) }

// next returns an identifier that is not in use: the window is smaller than what there are.
func (x *ids) next() uint16 {
	for {
		if x.last++; x.last != 0 && !x.taken(x.last) {
			return x.last
		}
	}
}

// begin starts a connection. With present the session of the earlier ones goes on.
func (x *ids) begin(present bool) {
	x.used = [len(x.used)]uint64{}
	x.again = map[uint64]bool{}
	if !present || len(x.bySeq) > maxUnacknowledged {
		x.bySeq = map[uint64]uint16{}
	}
	for seq, id := range x.bySeq {
		x.take(id)
		x.again[seq] = true
	}
}

// of returns the identifier of a message, and whether the upstream may have got it under that.
func (x *ids) of(seq uint64) (id uint16, dup bool) {
	if id, ok := x.bySeq[seq]; ok {
		dup = x.again[seq]
		delete(x.again, seq)
		return id, dup
	}
	id = x.next()
	x.take(id)
	x.bySeq[seq] = id
	return id, false
}

// done frees the identifier of a message that is acknowledged.
func (x *ids) done(seq uint64, id uint16) {
	x.free(id)
	delete(x.bySeq, seq)
}

// forget gives up the identifier of a message that is not sent any more.
func (x *ids) forget(seq uint64) {
	if id, ok := x.bySeq[seq]; ok {
		x.done(seq, id)
	}
}

// nextID returns an identifier for a packet that is not kept.
func (s *connection) nextID() uint16 { return s.b.ids.next() }
