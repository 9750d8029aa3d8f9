// Package journal is the one durable log of a broker: messages, session state, retained values and
// acknowledgements, written once, read by many named readers.
//
// It promises: an entry that Completer.Committed gets without an error survives a power cut. A message
// stays until every reader it is owed to has acknowledged it, or until a limit drops it, which is counted
// and named in Losses. Readers get messages in the order of Append. Damage on disk costs what it
// hit, is counted, and never keeps the journal from opening. Memory does not grow with the backlog.
//
// It does not promise that a message is delivered once: after a crash a reader may see again what it
// acknowledged since the last commit: all of a second, or up to 64 messages of a quiet quarter of a
// minute. It keeps no message that is owed to no reader.
//
// A message is settled for a reader when the reader has acknowledged it or the journal has dropped it.
//
// Errors: ErrFull means try again when readers have caught up; ErrFailed that the storage refuses
// writes, which is tried again by itself; ErrTooLarge and ErrClosed are final. Anything that Open
// returns needs a person.
package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/broker"
)

var (
	ErrClosed   = errors.New("journal: closed")
	ErrFull     = errors.New("journal: full")
	ErrFailed   = errors.New("journal: storage failed")
	ErrTooLarge = errors.New("journal: message too large")
	ErrState    = errors.New("journal: the state has reached its share of the journal's size")
)

// WhenFull selects what happens to a new message when the journal has reached its size.
type WhenFull byte

const (
	DropOldest WhenFull = iota // the oldest segment is dropped, counted and named
	RefuseNew                  // Append returns ErrFull
)

const (
	defaultSegment = 8 << 20
	smallestSize   = 2 << 20 // of a journal: 8 segments of the smallest size
	smallestPart   = 256 << 10
	largestState   = 8 << 20 // bytes of state, unless Options say otherwise
	keyWeight      = 64      // bytes of memory that a key costs beside itself and its value

	// How long acknowledgements wait for a commit to ride in: many for ackDelay, less than ackMany
	// for ackIdle, because they are not worth a write of their own.
	ackDelay = time.Second
	ackIdle  = 15 * time.Second
	ackMany  = 64
)

// Defaults of Options, which the configuration prints.
const (
	DefaultMaxSize     = 2 << 30
	DefaultCommitEvery = time.Second
)

// Options configure a Journal. The zero value of every field but FS is usable.
type Options struct {
	FS FS
	// Beside holds a second small file, outside of FS, with the journal's position. nil means none: then there is
	// no Epoch, and the journal does not notice that it went back in time.
	Beside      FS
	MaxSize     int64         // bytes of all segments; 0 means DefaultMaxSize, less than 2 MiB is raised to it
	MaxState    int64         // bytes of memory for keys and values of Limited entries; 0 means an eighth of MaxSize, at most 8 MiB
	SegmentSize int64         // bytes; 0 means 8 MiB, or less so that MaxSize holds at least 8
	KeepFree    int64         // bytes to leave free on the file system
	MaxAge      time.Duration // messages older than this are dropped; 0 means never
	WhenFull    WhenFull
	CommitEvery time.Duration // how long an entry with Lazy may wait for others; 0 means DefaultCommitEvery
	// Number returns the number that consumers see in a message, if it has one. Losses contain
	// the range of the numbers that were lost. It must not call the journal. nil if nothing is numbered.
	Number func(m *broker.Message) (n uint64, ok bool)
	// Progress is called by the goroutine that writes, with true when it has something to do and with false
	// before it waits for that and when it ends. nil means no call.
	Progress func(busy bool)
	Log      *slog.Logger // nil discards

	Clock Clock // of tests; nil is the kernel's

	wall func() (ns int64, synced bool) // of tests
}

func (o *Options) setDefaults() {
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	o.MaxSize = max(o.MaxSize, smallestSize)
	if o.MaxState == 0 {
		o.MaxState = min(o.MaxSize/8, largestState)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegment
	}
	o.SegmentSize = max(smallestPart, min(o.SegmentSize, o.MaxSize/8)&^(headerSize-1))
	if o.CommitEvery == 0 {
		o.CommitEvery = DefaultCommitEvery
	}
	if o.Progress == nil {
		o.Progress = func(bool) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// maxBatch is the most bytes of one commit. Two of them fit into a segment, so that a loss that was
// decided when a segment began is on disk before the next one is needed.
func (o *Options) maxBatch() int { return int(min(4<<20, (o.SegmentSize-headerSize)*3/8)) }

// Owed names a reader that needs a message.
type Owed struct {
	Reader *Reader
	QoS    byte // of the delivery: 1 or 2
	Retain bool // RETAIN flag of the delivery [MQTT-3.3.1-12]
}

// Change sets one key of the durable state, or deletes it if Value is nil. Keys that start with
// "journal/" are taken.
type Change struct {
	Key   string
	Value []byte
}

// Entry is what becomes durable together, or not at all.
type Entry struct {
	Message  *broker.Message // nil for changes alone; not to be changed after Append
	Owed     []Owed          // readers, each at most once; not to be changed before Done
	Retained bool            // Message becomes the retained value of its topic; an empty payload removes it
	Changes  []Change
	Lazy     bool      // may wait Options.CommitEvery for others
	Limited  bool      // Changes count against Options.MaxState: they are a client's
	Done     Completer // nil if no caller waits
	Tag      uint64    // for Done
	From     string    // the publisher of Message, for Held; empty if that does not matter. It is not on disk.
}

// Completer receives the result of an entry.
type Completer interface {
	// Committed is called once for each entry that Append took, in the order of the Append calls, by
	// one goroutine, after a nil error's entry is durable and offered to its readers. seq is the
	// message's sequence number. It must not block; it may call Append with changes alone.
	Committed(e *Entry, seq uint64, err error)
}

// Journal is an open log. All methods are safe for concurrent use.
type Journal struct {
	opts   Options
	fs     FS
	log    *slog.Logger
	clock  clock
	bootID [16]byte
	lock   io.Closer

	wake         chan struct{} // for the committer
	housekeeping chan struct{} // wakes the maintainer
	done         chan *batch   // from the committer to the completer
	queued       queued        // deliveries in memory
	resting      atomic.Int64  // bytes of buffers of readers that rest
	stop         chan struct{} // closed when the completer has ended
	ended        sync.WaitGroup

	committing, completing pace

	interruption Interruption // the newest; does not change after Open

	mu                sync.Mutex
	room              sync.Cond // pending was taken, a segment was preallocated, or the journal is closing
	pending           *batch
	gathering         int // how many entries the committer waits for; 0 for any
	free              []*batch
	closing           bool
	nextSeq           uint64
	dirty             []*Reader              // have acknowledgements that are not on disk
	dirtyAt           time.Time              // since when
	acked             int                    // how many
	pendingLosses     []readerLoss           // not on disk and in no batch; their readers are dirty
	flushNow          bool                   // pendingLosses do not wait for other entries
	logging           []readerLoss           // losses in batches that are being written
	failed            bool                   // the last commit did
	retryAt           time.Time              // after a failed commit: when to write acknowledgements and losses again
	preallocated      []*preallocatedSegment // files for the next segments
	preallocateErr    error                  // why preallocated is empty
	lastPreallocated  bool                   // no other can follow the last of them
	waitingForSegment bool                   // the committer waits for a preallocated segment
	every             int                    // segments between checkpoints, and files that are preallocated together; does not change
	mayTakeLast       bool                   // the last preallocated segment, although a checkpoint is due: it was tried
	unused            []string               // files that a failed commit left without anything durable
	full              bool                   // RefuseNew, and no space but the reserve
	state             map[string][]byte
	crowded           atomic.Bool  // pending takes more than half of a commit; guarded by mu for writing
	snapSize          atomic.Int64 // bytes of the newest checkpoint
	stateSize         int64        // bytes of memory for state
	stateNext         int64        // the same of entries that are not on disk yet
	retained          map[string]retained
	readers           map[string]*Reader
	byID              map[uint64]*Reader
	nextID            uint64
	segments          []*segment     // oldest first
	losses            []Loss         // oldest first
	news              uint64         // losses that are on disk, ever
	found             []uint64       // News of those that recovery has found
	snaps             []snapshotMark // on disk, oldest first; at most two
	stale             []uint64       // checkpoints that were not removed in time
	resnap            bool           // memory holds changes that failed to reach the log
	recovery          Recovery
	identity          []byte  // of this journal; does not change after Open
	starts            []begun // ascending, the present one last; does not change after Open
	closeErr          error   // of the last checkpoint
	before            Ledger  // up to Open
	made              bool    // by this process, madeAt ns after boot
	madeAt            int64

	counters   counters
	complaints complaints
}

// retained is the retained message of a topic.
type retained struct {
	message *broker.Message
	time    Time
	seg     *segment // for its time, while opening
}

type counters struct {
	commits, syncs, written, messages, refused, refusedState, failures, damaged atomic.Uint64
}

// Stats are totals since Open, and the present size.
type Stats struct {
	Messages  uint64 // appended and durable
	Commits   uint64
	Syncs     uint64 // fdatasync and directory syncs
	Written   uint64 // bytes handed to the file system
	Refused   uint64 // messages that Append did not take because the journal was full
	Failures  uint64 // failed writes and syncs
	StateSize int64  // bytes of memory that the state takes
	StateFull uint64 // entries that Append did not take because the state had its share
	Damaged   uint64 // bytes of segments that could not be read back
	Size      int64  // bytes of all segments
	Segments  int
	NextSeq   uint64
	Full      bool // refusing new messages
	Failed    bool // storage refuses writes
	Retained  int
	StateKeys int
	Ledger    Ledger
}

// Stats returns figures for metrics.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats()
}

// stats is Stats, called with mu held.
func (j *Journal) stats() Stats {
	return Stats{
		Messages: j.counters.messages.Load(),
		Commits:  j.counters.commits.Load(), Syncs: j.counters.syncs.Load(),
		Written: j.counters.written.Load(), Refused: j.counters.refused.Load(), Failures: j.counters.failures.Load(),
		Damaged: j.counters.damaged.Load(), Ledger: j.ledger(),
		Segments: len(j.segments), Size: int64(len(j.segments)) * j.opts.SegmentSize,
		NextSeq: j.nextSeq, Full: j.full, Failed: j.failed || j.preallocateErr != nil,
		Retained: len(j.retained), StateKeys: len(j.state), StateSize: j.stateSize, StateFull: j.counters.refusedState.Load(),
	}
}

// Recovery is what Open found.
type Recovery struct {
	Messages uint64   // read from the tail of the log
	Torn     int64    // bytes of a last batch that was never acknowledged
	Damaged  int64    // bytes that had been synchronised and cannot be read
	Aside    []string // quarantined: corrupt files, renamed and kept
	Foreign  []string // files that are none of the journal's, left alone
	Rewound  bool     // the journal is older than the file beside it, or another one
	Unknown  []string // why an unknown number of messages is lost; empty if all that is lost is known
}

// Recovery returns what Open found.
func (j *Journal) Recovery() Recovery { return j.recovery }

// newJournal returns a journal of complete options that has read nothing, and runs nothing.
func newJournal(opts Options) *Journal {
	j := &Journal{
		opts: opts, fs: opts.FS, log: opts.Log,
		nextSeq: 1, nextID: 1,
		state: map[string][]byte{}, retained: map[string]retained{},
		readers: map[string]*Reader{}, byID: map[uint64]*Reader{},
	}
	j.clock.init(&opts)
	j.bootID = j.clock.bootID()
	j.room.L = &j.mu
	return j
}

// Open recovers the log in opts.FS and starts its goroutines, which end with Close.
func Open(opts Options) (*Journal, error) {
	opts.setDefaults()
	lock, err := opts.FS.Lock()
	if err != nil {
		return nil, fmt.Errorf("journal: lock: %w", err)
	}
	j := newJournal(opts)
	j.lock, j.done, j.stop = lock, make(chan *batch, 1), make(chan struct{})
	j.wake, j.housekeeping = make(chan struct{}, 1), make(chan struct{}, 1)
	for range 4 { // pending, being written, waiting for the completer, being completed
		j.free = append(j.free, newBatch())
	}
	j.pending = j.takeBatch()
	start := j.readStart()
	r, err := j.recover(start)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: open: %w", err)
	}
	j.beginEpoch(start)
	c := &committer{j: j, next: j.nextSeq}
	if n := len(j.segments); n > 0 {
		s := j.segments[n-1]
		c.previous, c.previousEnd, c.previousNext = s.id, s.end, s.next
	}
	k := &maintainer{
		j: j, lastID: r.lastID, free: r.free, snapshots: r.lastSnapshot, files: r.files,
		most: int(opts.MaxSize / opts.SegmentSize),
	}
	j.every = max(1, min(k.most/16, 4))
	k.least = k.files + 1 // whatever the limits have become
	if j.before.Since.IsZero() {
		j.made, j.madeAt = true, j.clock.bootTime()
	}
	if start != nil {
		k.start.Next = start.Next
	}
	k.begin()
	j.committing.begun, j.completing.begun = time.Now(), time.Now()
	k.first()
	j.ended.Add(3)
	go c.run()
	go j.complete()
	go k.run()
	return j, nil
}

// Append adds an entry to the next commit. It blocks while more bytes are pending than one commit takes,
// except for changes alone. An entry with neither Message nor Changes costs nothing on disk and
// completes in its turn. After an error Done is not called.
func (j *Journal) Append(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(&e)
}

func (j *Journal) append(e *Entry) error {
	limit, size := j.opts.maxBatch(), e.size()
	if e.Message != nil {
		if size > limit/2 {
			return fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, size, limit/2)
		}
		for !j.closing && len(j.pending.buf)+size > limit {
			j.pending.urgent = true
			j.poke()
			j.room.Wait()
		}
		if j.full && len(e.Owed) > 0 {
			j.counters.refused.Add(1)
			return ErrFull
		}
	} else if e.Limited && size > limit {
		return fmt.Errorf("%w: changes of %d bytes, want at most %d", ErrTooLarge, size, limit)
	}
	if e.Limited && j.stateGrows(e.Changes) {
		j.counters.refusedState.Add(1)
		return ErrState
	}
	added := e.stateSize()
	if j.closing {
		return ErrClosed
	}
	seq := j.nextSeq
	if e.Message != nil {
		j.nextSeq++
	}
	j.stateNext += added
	j.pending.add(e, size, seq, j.clock.bootTime())
	if len(j.pending.buf) > limit/2 && !j.crowded.Load() {
		j.crowded.Store(true)
	}
	if !e.Lazy || len(j.pending.items) == 1 || j.pending.urgent {
		j.pending.urgent = j.pending.urgent || !e.Lazy
		if len(j.pending.items) >= j.gathering {
			j.poke()
		}
	}
	return nil
}

// size is the most bytes that the entry takes on disk.
func (e *Entry) size() int {
	size := 64
	if m := e.Message; m != nil {
		size += len(m.Topic) + len(m.Payload) + len(m.Properties) + 10*len(e.Owed)
	}
	for _, c := range e.Changes {
		size += len(c.Key) + len(c.Value) + 20
	}
	return size
}

// stateSize is what the entry's changes add to the state, in bytes of memory, if all keys are new.
func (e *Entry) stateSize() (n int64) {
	for _, c := range e.Changes {
		if c.Value != nil && !strings.HasPrefix(c.Key, readerPrefix) {
			n += stateWeight(c.Key, c.Value)
		}
	}
	return n
}

// stateGrows reports whether changes add keys for which the state has no room. Replacing or deleting a key is
// always possible. Called with mu held.
func (j *Journal) stateGrows(changes []Change) bool {
	var added int64
	for _, c := range changes {
		if _, known := j.state[c.Key]; !known && c.Value != nil {
			added += stateWeight(c.Key, c.Value)
		}
	}
	return added > 0 && j.stateSize+j.stateNext+added > j.opts.MaxState
}

func stateWeight(key string, value []byte) int64 { return keyWeight + int64(len(key)+len(value)) }

// Crowded reports whether WaitForRoom would wait.
func (j *Journal) Crowded() bool { return j.crowded.Load() }

// WaitForRoom returns when less than half of a commit is pending, or the journal closes. Append does not block for
// changes alone: a caller that appends many of them calls WaitForRoom in between, without a lock.
func (j *Journal) WaitForRoom() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for !j.closing && j.crowded.Load() {
		j.pending.urgent = true
		j.poke()
		j.room.Wait()
	}
}

// poke wakes the committer.
func (j *Journal) poke() { signal(j.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Get returns the value of a key, and whether there is one. The value is shared and must not be changed.
// Changes of entries that are not yet durable are not seen.
func (j *Journal) Get(key string) ([]byte, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	value, ok := j.state[key]
	return value, ok
}

// rangeStep is how many keys Range looks at before it lets others have the journal.
const rangeStep = 1000

// Range calls f for each key that has the prefix, in order, until f returns false. Values are shared
// and must not be changed. Changes of entries that are not yet durable are not seen, and those that become durable
// while Range looks for keys are seen or not. The journal is not locked while f runs, and appends wait for no
// more than a part of the search.
func (j *Journal) Range(prefix string, f func(key string, value []byte) bool) {
	type entry struct {
		key   string
		value []byte
	}
	var found []entry
	seen := 0
	j.mu.Lock()
	for key, value := range j.state { // a map may change between two steps of its iteration
		if strings.HasPrefix(key, prefix) {
			found = append(found, entry{key, value})
		}
		if seen++; seen%rangeStep == 0 {
			j.mu.Unlock()
			j.mu.Lock()
		}
	}
	j.mu.Unlock()
	slices.SortFunc(found, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range found {
		if !f(e.key, e.value) {
			return
		}
	}
}

// RangeRetained calls f for each retained message, in no order, until f returns false. Messages are
// shared and must not be changed.
func (j *Journal) RangeRetained(f func(m *broker.Message, t Time) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.retained {
		if !f(r.message, r.time) {
			return
		}
	}
}

// Losses returns what was dropped, oldest first. At most 1,000 ranges are kept: beyond that, the oldest
// become one with the next of the same reader and reason.
func (j *Journal) Losses() []Loss {
	j.mu.Lock()
	defer j.mu.Unlock()
	losses := slices.Clone(j.losses)
	for _, l := range append(slices.Clip(j.logging), j.pendingLosses...) {
		losses = append(losses, l.Loss)
	}
	return losses
}

// Close commits what is pending, writes a checkpoint and frees the directory. Readers return ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		return ErrClosed
	}
	j.closing = true
	j.room.Broadcast()
	for _, r := range j.readers {
		signal(r.ready)
	}
	j.mu.Unlock()
	j.poke()
	signal(j.housekeeping)
	j.ended.Wait()
	return errors.Join(j.closeErr, j.lock.Close())
}
