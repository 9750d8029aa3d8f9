package bridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"

	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// markName is the user property by which gateways know each other's messages, over MQTT 5: a value
// DEVICE/BRIDGE/EPOCH/SEQUENCE for each bridge that the message went up by, in that order. At QoS 0 a message
// has no number, and SEQUENCE is 0, which the journal gives to none.
const markName = "holdfast"

// maxHops is the most bridges that a message has come by.
const maxHops = 8

// marker makes the values of this bridge. EPOCH is a number that changes with what the journal remembers of the
// bridge and, behind a dash, the journal's epoch in which the message was appended: one that is sent again has the
// same mark, and a new message of a journal that went back in time never has that of an old one. A bridge that has
// got another name keeps its values: the name is stored with the number. It is for one goroutine.
type marker struct {
	journal *journal.Journal
	name    []byte        // DEVICE/BRIDGE/ and the number
	epoch   journal.Epoch // of prefix
	prefix  []byte
}

func (m *marker) init(o *Options) {
	if o.Origin == "" || o.Journal == nil {
		return
	}
	key := "bridge/" + o.Name + "/epoch"
	value, _ := o.Journal.Get(key)
	epoch := string(value)
	if epoch == "" {
		epoch = fmt.Sprintf("%s/%08x", o.Name, rand.Uint32())
		// If this does not become durable, the next start makes another one, and duplicates between
		// the two are not recognised.
		_ = o.Journal.Append(journal.Entry{Changes: []journal.Change{{Key: key, Value: []byte(epoch)}}, Lazy: true})
	}
	m.journal, m.name = o.Journal, []byte(o.Origin+"/"+epoch)
	m.of(o.Journal.Epoch())
}

// of makes the prefix for an epoch. Messages from before there were epochs have none.
func (m *marker) of(e journal.Epoch) {
	m.epoch, m.prefix = e, append(m.prefix[:0], m.name...)
	if e != (journal.Epoch{}) {
		m.prefix = append(append(m.prefix, '-'), e.String()...)
	}
	m.prefix = append(m.prefix, '/')
}

// append puts the mark of a message behind its properties, in b's memory.
func (m *marker) append(b []byte, properties []byte, seq uint64) []byte {
	if m.prefix == nil {
		return properties
	}
	if e := m.journal.EpochOf(seq); seq > 0 && e != m.epoch {
		m.of(e)
	}
	var value [256]byte
	v := strconv.AppendUint(append(value[:0], m.prefix...), seq, 10)
	return wire.AppendUser(append(b[:0], properties...), markName, v)
}

// marked returns a number for the marks of a message, 0 if it cannot be recognised again, and whether it
// has been at origin or at too many gateways.
func marked(properties []byte, origin string) (mark uint64, looped bool) {
	if !bytes.Contains(properties, []byte(markName)) {
		return 0, false
	}
	f, err := wire.ParseForward(properties)
	if err != nil {
		return 0, false
	}
	h := fnv.New64a()
	hops, numbered := 0, false
	for _, u := range f.User {
		if u.Name != markName {
			continue
		}
		hops++
		if device, _, _ := strings.Cut(u.Value, "/"); device == origin && origin != "" {
			looped = true
		}
		numbered = !strings.HasSuffix(u.Value, "/0")
		h.Write([]byte(u.Value + "\n"))
	}
	if looped = looped || hops >= maxHops; !numbered {
		return 0, looped
	}
	return max(1, h.Sum64()), looped
}

// seenMarks is how many marks are remembered: more than all gateways together send again at a cut.
const seenMarks = 1024

// marks are the last ones that came in, here and in the journal.
type marks struct {
	key  string
	slot [seenMarks]uint64
	next int
	by   map[uint64]*arrival
}

func (m *marks) init(key string) { m.key, m.by = key+"seen/", make(map[uint64]*arrival) }

// load reads a stored slot, which has the mark and how many there were before it.
func (m *marks) load(key string, value []byte) bool {
	name, ok := strings.CutPrefix(key, "seen/")
	slot, err := strconv.Atoi(name)
	if !ok || err != nil || slot < 0 || slot >= seenMarks || len(value) != 16 {
		return false
	}
	mark := binary.BigEndian.Uint64(value)
	m.slot[slot] = mark
	m.by[mark] = &arrival{kept: true}
	m.next = max(m.next, int(binary.BigEndian.Uint64(value[8:]))+1)
	return true
}

func (m *marks) find(mark uint64) *arrival { return m.by[mark] }

// add remembers a mark instead of the oldest one, and returns the change to store with the message.
func (m *marks) add(mark uint64, a *arrival) journal.Change {
	slot := m.next % seenMarks
	if old := m.slot[slot]; old != 0 {
		delete(m.by, old)
	}
	m.slot[slot], m.by[mark] = mark, a
	value := binary.BigEndian.AppendUint64(nil, mark)
	value = binary.BigEndian.AppendUint64(value, uint64(m.next))
	m.next++
	return journal.Change{Key: m.key + strconv.Itoa(slot), Value: value}
}

// forget removes the mark that was added for a.
func (m *marks) forget(a *arrival) {
	for mark, other := range m.by {
		if other == a {
			delete(m.by, mark)
		}
	}
}
