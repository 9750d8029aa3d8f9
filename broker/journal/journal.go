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
	"sync"
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

// Journal is an open log. All methods are safe for concurrent use.
//
// It is made of small structs with rules and methods of their own. Three goroutines share them: the committer takes the
// queue and the acknowledgements to disk, the completer applies what is durable to state, readers and segments, and the
// maintainer writes checkpoints, reclaims segments and preallocates files.
//
// Locks are taken in this order: consumer or look.mu of a Reader, Journal.mu, mu of a Reader, and the logger's last. The
// first two are held while a reader's messages are read; under Journal.mu nothing is read or written, only an old
// checkpoint is removed when space is short (forgetOlder).
type Journal struct {
	opts     Options  // with defaults; do not change
	fs       FS       // of opts
	log      logger   // has a lock of its own
	clock    clock    // atomic
	recovery Recovery // what Open found; does not change after Open
	epochs   epochs   // the starts that the journal has seen; do not change after Open
	running  running  // what Open starts and Close ends
	figures  figures  // totals for Stats; atomic
	memory   memory   // what readers hold in memory, in all; atomic

	mu           sync.Mutex    // guards all below
	room         sync.Cond     // of mu: a batch was taken or is free, a segment was preallocated, or the journal is closing
	closing      bool          // Close was called: nothing is taken in or dropped any more
	queue        queue         // entries on their way to disk
	acks         ackQueue      // acknowledgements and losses on their way to disk
	preallocated preallocation // files for the next segments
	state        state         // keys and retained messages, as on disk
	readers      registry      // by name and by id
	segments     segmentList   // the log, oldest first
	checkpoints  checkpoints   // on disk
	losses       lossList      // on disk, by name
}

// running is what Open starts and Close ends: the lock of the directory, and the goroutines with what they wake each
// other by. The channels do not change after Open.
type running struct {
	lock         io.Closer
	wake         chan struct{} // for the committer
	housekeeping chan struct{} // for the maintainer
	done         chan *batch   // from the committer to the completer
	stop         chan struct{} // closed when the completer has ended, for the maintainer
	ended        sync.WaitGroup
	closeErr     error // of the last checkpoint; the maintainer's until it has ended

	committing, completing pace // atomic
}

func (r *running) init(lock io.Closer) {
	r.lock = lock
	r.wake, r.housekeeping = make(chan struct{}, 1), make(chan struct{}, 1)
	r.done, r.stop = make(chan *batch, 1), make(chan struct{})
}

// wakeCommitter has the committer look again at what is due.
func (r *running) wakeCommitter() { signal(r.wake) }

// wakeMaintainer starts a round of housekeeping, or another one behind that which runs.
func (r *running) wakeMaintainer() { signal(r.housekeeping) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// newJournal returns an empty journal, whose options are complete, in memory. Nothing runs in it.
func newJournal(opts Options) *Journal {
	j := &Journal{opts: opts, fs: opts.FS, state: newState(), readers: newRegistry()}
	j.log.Logger = opts.Log
	j.queue.nextSeq = 1
	j.room.L = &j.mu
	j.clock.init(&opts)
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
	j.running.init(lock)
	j.queue.init()
	start := j.readStart()
	r, err := j.recover(start)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: open: %w", err)
	}
	j.beginEpoch(start)
	c := newCommitter(j)
	k := newMaintainer(j, r, start)
	j.figures.begin(&j.clock)
	k.begin()
	j.running.committing.begun, j.running.completing.begun = time.Now(), time.Now()
	k.first()
	j.running.ended.Add(3)
	go c.run()
	go j.complete()
	go k.run()
	return j, nil
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
	for _, r := range j.readers.byName {
		signal(r.ready)
	}
	j.mu.Unlock()
	j.running.wakeCommitter()
	j.running.wakeMaintainer()
	j.running.ended.Wait()
	return errors.Join(j.running.closeErr, j.running.lock.Close())
}
