package journal_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// TestKill has a process append, read and acknowledge as fast as it can, kills it with SIGKILL at a
// random moment and looks for everything that it said was on disk; HOLDFAST_CRASH_KILLS times on the
// same directory.
func TestKill(t *testing.T) {
	kills := 5
	if v, err := strconv.Atoi(os.Getenv("HOLDFAST_CRASH_KILLS")); err == nil {
		kills = v
	}
	for name, size := range map[string]int64{"a backlog that grows": 1 << 30, "segments that are used again": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			k := newKills(t, size)
			for range kills {
				k.run()
				k.check()
			}
			t.Logf("%d kills: %d messages committed, %d of them dropped by max_size and named, %d acknowledged",
				kills, k.total, k.dropped, k.acked)
		})
	}
}

const (
	killProducers = 8
	killInFlight  = 64 // messages of one producer that are not committed yet

	// killEnv hands a process its part: max_size, the number of each producer's next message, directory.
	killEnv = "HOLDFAST_KILL_TEST"
)

// killReaders are owed everything. The second acknowledges nothing, so that limits have to drop.
var killReaders = []string{"acknowledges", "dead"}

// What the victim says, each with two numbers.
const (
	saidOpen      = 'o' // it is at work
	saidCommitted = 'c' // tag of a message, sequence number: is on disk
	saidSettled   = 's' // tag of a message, 0: the reader is about to acknowledge it
)

func killTag(producer int, n uint64) uint64 { return uint64(producer)<<48 | n }

func killProducer(tag uint64) (producer int, n uint64) { return int(tag >> 48), tag & (1<<48 - 1) }

// killContent is the payload of a message: its tag, and bytes that only it has.
func killContent(tag uint64) []byte { return content(tag, int(tag*2654435761%1500)) }

func TestMain(m *testing.M) {
	part := os.Getenv(killEnv)
	if part == "" {
		os.Exit(m.Run())
	}
	if err := victim(part); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

// victim works until it is killed.
func victim(part string) error {
	var size int64
	var next [killProducers]uint64
	var dir string
	args := []any{&size, &dir}
	for p := range next {
		args = append(args, &next[p])
	}
	if _, err := fmt.Sscan(part, args...); err != nil {
		return err
	}
	fs, err := journal.NewDirFS(dir)
	if err != nil {
		return err
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: size})
	if err != nil {
		return err
	}
	v := &witness{}
	var owed []journal.Owed
	for _, name := range killReaders {
		r, err := j.OpenReader(name)
		if err != nil {
			return err
		}
		owed = append(owed, journal.Owed{Reader: r, QoS: 1})
	}
	failed := make(chan error)
	for p, n := range next {
		v.room[p] = make(chan struct{}, killInFlight)
		go func() {
			for ; ; n++ {
				v.room[p] <- struct{}{}
				tag := killTag(p, n)
				m := &broker.Message{Topic: fmt.Sprint("k/", p), Payload: killContent(tag), QoS: 1}
				if err := j.Append(journal.Entry{Message: m, Owed: owed, Done: v, Tag: tag, Lazy: n%3 == 0}); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	go func() { failed <- acknowledge(owed[0].Reader, v) }()
	v.say(saidOpen, 0, 0)
	return <-failed
}

// acknowledge acknowledges what it reads, some of it late.
func acknowledge(r *journal.Reader, v *witness) error {
	r.Attach()
	var held []journal.Delivery
	for {
		d, ok, err := r.TryNext()
		if err != nil {
			return err
		}
		if !ok {
			<-r.Ready()
			continue
		}
		for held = append(held, d); len(held) > 10; {
			i := rand.IntN(len(held))
			v.say(saidSettled, binary.BigEndian.Uint64(held[i].Message.Payload), 0)
			r.Ack(held[i].Seq)
			held = slices.Delete(held, i, i+1)
		}
	}
}

// witness tells the parent, by pipe, so that what was said outlives the process.
type witness struct {
	mu   sync.Mutex
	room [killProducers]chan struct{}
}

func (v *witness) Committed(e *journal.Entry, seq uint64, err error) {
	if err != nil {
		panic(err)
	}
	v.say(saidCommitted, e.Tag, seq)
	p, _ := killProducer(e.Tag)
	<-v.room[p]
}

func (v *witness) say(what byte, a, b uint64) {
	record := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64([]byte{what}, a), b)
	v.mu.Lock()
	defer v.mu.Unlock()
	os.Stdout.Write(record) // the parent's end is the end of this process
}

// kills is a directory and what has to be in it.
type kills struct {
	t    *testing.T
	dir  string
	size int64
	next [killProducers]uint64 // numbers that the next process begins with

	must    []map[uint64]uint64 // by reader: tag and sequence number of what it is owed
	settled map[uint64]bool     // tags that the first reader may have acknowledged for good
	floor   []uint64            // by reader: sequence numbers below are settled for good

	total, dropped, acked int
}

func newKills(t *testing.T, size int64) *kills {
	k := &kills{t: t, dir: t.TempDir(), size: size, floor: make([]uint64, len(killReaders))}
	for range killReaders {
		k.must = append(k.must, map[uint64]uint64{})
	}
	return k
}

// run starts a victim and kills it at work.
func (k *kills) run() {
	exe, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	part := fmt.Sprintf("%d %s %s", k.size, k.dir, strings.Trim(fmt.Sprint(k.next), "[]"))
	cmd.Env = append(os.Environ(), killEnv+"="+part)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	defer cmd.Process.Kill()
	k.settled = map[uint64]bool{}
	r := bufio.NewReader(out)
	var record [17]byte
	for {
		if _, err := io.ReadFull(r, record[:]); err != nil {
			break
		}
		a, b := binary.LittleEndian.Uint64(record[1:]), binary.LittleEndian.Uint64(record[9:])
		switch record[0] {
		case saidOpen:
			timer := time.AfterFunc(time.Duration(rand.Int64N(int64(300*time.Millisecond))), func() { cmd.Process.Kill() })
			defer timer.Stop()
		case saidCommitted:
			for _, must := range k.must {
				must[a] = b
			}
			p, n := killProducer(a)
			k.next[p] = max(k.next[p], n+1)
			k.total++
		case saidSettled:
			k.settled[a] = true
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		k.t.Fatalf("the process has ended by itself: %v\n%s", err, &log)
	}
}

// check opens what a victim has left. Now and then it acknowledges everything, so that a backlog does
// not take the whole test to read.
func (k *kills) check() {
	fs, err := journal.NewDirFS(k.dir)
	if err != nil {
		k.t.Fatal(err)
	}
	// A limit must not drop anything while it is looked at.
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 2 << 30, SegmentSize: min(8<<20, k.size/8)})
	if err != nil {
		k.t.Fatalf("open: %v", err)
	}
	if rec := j.Recovery(); rec.Damaged > 0 || len(rec.Aside) > 0 || len(rec.Foreign) > 0 {
		k.t.Fatalf("damage found where there is none: %+v", rec)
	}
	losses := j.Losses()
	all := rand.IntN(10) == 0
	for i, name := range killReaders {
		r, err := j.OpenReader(name)
		if err != nil {
			k.t.Fatal(err)
		}
		here := k.drain(r, i, all)
		for tag, seq := range k.must[i] {
			if _, ok := here[tag]; ok || i == 0 && k.settled[tag] {
				continue
			}
			if l := lost(losses, name, seq); l < 0 || losses[l].Reason != journal.ReasonSize {
				k.t.Errorf("%s: message %x (%d) was committed and is missing; losses %+v", name, tag, seq, losses)
			}
			k.dropped++
		}
		if i == 0 {
			k.acked += len(k.settled)
		}
		if k.must[i] = here; all {
			clear(k.must[i])
		}
	}
	if err := j.Close(); err != nil {
		k.t.Errorf("close: %v", err)
	}
	if k.t.Failed() {
		k.t.FailNow()
	}
}

// drain reads everything that a reader is owed, in order.
func (k *kills) drain(r *journal.Reader, reader int, ack bool) map[uint64]uint64 {
	here := map[uint64]uint64{}
	var last [killProducers]uint64 // one past the newest number
	r.Attach()
	defer r.Detach()
	for {
		d, ok, err := r.TryNext()
		if err != nil {
			k.t.Fatal(err)
		}
		if !ok {
			return here
		}
		if len(d.Message.Payload) < 8 {
			k.t.Fatalf("%s: message %d was never appended", r.Name(), d.Seq)
		}
		tag := binary.BigEndian.Uint64(d.Message.Payload)
		p, n := killProducer(tag)
		switch {
		case p >= killProducers || d.Message.Topic != fmt.Sprint("k/", p) || !bytes.Equal(d.Message.Payload, killContent(tag)):
			k.t.Fatalf("%s: message %d was never appended", r.Name(), d.Seq)
		case n < last[p]:
			k.t.Fatalf("%s: message %d of producer %d after %d", r.Name(), n, p, last[p]-1)
		case d.Seq < k.floor[reader]:
			k.t.Fatalf("%s: message %d is settled for good", r.Name(), d.Seq)
		}
		last[p] = n + 1
		k.next[p] = max(k.next[p], n+1)
		here[tag] = d.Seq
		if ack {
			r.Ack(d.Seq)
			k.floor[reader] = d.Seq + 1
		}
	}
}
