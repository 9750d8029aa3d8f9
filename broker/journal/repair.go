package journal

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Repaired is what Repair did.
type Repaired struct {
	Found *Report           // before
	Aside map[string]string // by file: the name under which its corrupt bytes are quarantined
	New   []Loss            // what is known to be lost with them; readers find the rest when they come to it
}

// Repair makes a journal whole that no process has open: it quarantines what cannot be read under
// another name, and what can be read stays in its place and order. It deletes nothing. Losses names
// missing messages when their readers come to them. A power cut in the
// middle costs nothing: Repair may be called again.
func Repair(dir string, progress func(done, total int64)) (*Repaired, error) {
	var done *Repaired
	err := offline(dir, "repair", func(d *DirFS) error {
		v, err := inspect(d)
		if err != nil {
			return err
		}
		v.holder, v.Progress = 0, progress // the lock is ours
		done, err = v.repair()
		return err
	})
	return done, err
}

// offline calls f while no other process can open the journal.
func offline(dir, what string, f func(d *DirFS) error) error {
	if err := checkJournalDir(dir); err != nil {
		return err
	}
	d := &DirFS{dir}
	lock, err := d.Lock()
	if err != nil {
		return fmt.Errorf("journal: %s: %w", what, err)
	}
	return errors.Join(f(d), lock.Close())
}

func (v *View) repair() (*Repaired, error) {
	report, err := v.Verify()
	if err != nil {
		return nil, err
	}
	done := &Repaired{Found: report, Aside: map[string]string{}}
	if !report.Damaged() {
		return done, nil
	}
	for _, d := range report.Damage {
		if d.Segment && d.Bytes > 0 {
			to := quarantineName(v.files, d.File)
			if err := v.dir.Rename(d.File, to); err != nil {
				return nil, fmt.Errorf("journal: quarantine: %w", err)
			}
			done.Aside[d.File] = to
		}
	}
	if err := v.dir.SyncDir(); err != nil {
		return nil, fmt.Errorf("journal: quarantine: %w", err)
	}
	// Both checkpoints have to end where the log does, so that recovery does not look for a record behind a place
	// from which it is about to be moved.
	j, err := settledJournal(v.dir)
	if err != nil {
		return nil, err
	}
	done.New = j.losses.wereFound()
	for _, s := range j.segments {
		bad := slices.ContainsFunc(report.Damage, func(d Damage) bool { return d.File == s.name() && !d.Segment && !d.Known })
		if !bad {
			continue
		}
		to := quarantineName(v.files, s.name())
		if err := v.rewrite(s, to); err != nil {
			return nil, fmt.Errorf("journal: repair %s: %w", s.name(), err)
		}
		done.Aside[s.name()] = to
	}
	return done, nil
}

// settledJournal recovers the journal in d and writes two checkpoints of it.
func settledJournal(d *DirFS) (*Journal, error) {
	j := newView(d)
	r, err := j.recover(nil)
	for _, reader := range j.readers.byID { // what is settled because its file is gone
		if reader.backlog.settled != reader.reg.durable.settled {
			reader.reg.durable, _ = reader.takeAck()
		}
	}
	for n := uint64(1); err == nil && n <= 2; n++ {
		err = j.writeSnapshot(r.lastSnapshot + n)
	}
	if err == nil {
		err = d.SyncDir()
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %s: %w", d.dir, err)
	}
	return j, nil
}

// rewrite copies the file of s to quarantine, and then puts one in its place that holds only what can be
// read, each batch from a sector on as before. The new file is no longer than the old one: what is taken out is at
// least as long as what fills a sector up.
func (v *View) rewrite(s *segment, quarantine string) error {
	d := v.dir
	in, err := d.Open(s.name(), false)
	if err != nil {
		return err
	}
	defer in.Close()
	size := fileSize(d.dir, s.name())
	err = writeWhole(d, quarantine+tempSuffix, func(out File) error {
		return copyReadable(out, in, size)
	})
	if err != nil {
		return err
	}
	if err := d.Rename(quarantine+tempSuffix, quarantine); err != nil {
		return err
	}
	err = writeWhole(d, s.name()+tempSuffix, func(out File) error { return v.writeGood(s, out, in, size) })
	if err != nil {
		return err
	}
	if err := d.SyncDir(); err != nil { // the copy has its name before the original loses its own
		return err
	}
	return errors.Join(d.Rename(s.name()+tempSuffix, s.name()), d.SyncDir())
}

func writeWhole(d *DirFS, name string, write func(File) error) error {
	out, err := d.Open(name, true)
	if err != nil {
		return err
	}
	err = write(out)
	if err == nil {
		err = out.Datasync()
	}
	return errors.Join(err, out.Close())
}

// copyReadable copies size bytes. Sectors that the disk does not return stay zero.
func copyReadable(out, in File, size int64) error {
	buf := make([]byte, scanChunk)
	for at := int64(0); at < size; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), size-at)]
		if _, err := in.ReadAt(part, at); err != nil && !errors.Is(err, io.EOF) {
			for i := 0; i < len(part); i += sector {
				one := part[i:min(i+sector, len(part))]
				if _, err := in.ReadAt(one, at+int64(i)); err != nil {
					clear(one)
				}
			}
		}
		if _, err := out.WriteAt(part, at); err != nil {
			return err
		}
	}
	return nil
}

// writeGood writes the header and the good frames of s, and zeros up to size.
func (v *View) writeGood(s *segment, out, in File, size int64) error {
	if _, err := out.WriteAt(s.encode(), 0); err != nil {
		return err
	}
	at := int64(headerSize)
	buf := make([]byte, 0, 2*scanChunk)
	flush := func() error {
		_, err := out.WriteAt(buf, at)
		at += int64(len(buf))
		buf = buf[:0]
		return err
	}
	clock := s.clock
	sc := newScanner(in, &s.header, headerSize, s.end, nil)
	for {
		f, ok := sc.next()
		if !ok {
			break
		}
		if _, err := v.record(s, f, &clock); err != nil {
			continue
		}
		if f.batchStart {
			buf = append(buf, make([]byte, padSector(at+int64(len(buf)))-at-int64(len(buf)))...)
		}
		start := len(buf)
		buf = endFrame(append(beginFrame(buf), f.body...))
		seal(buf[start:], len(f.body), f.kind, f.batchStart, uint32(f.seq-s.base), f.millis, s.salt)
		if len(buf) >= scanChunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	zeros := make([]byte, scanChunk)
	for ; at < size; at += int64(len(zeros)) {
		if _, err := out.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// Forgotten describes a reader that Forget removed.
type Forgotten struct {
	Depth uint64 // messages that were pending for it
	Freed int64  // bytes of files that hold nothing needed any more
}

// Forget removes a reader from a journal that no process has open, and what only it was owed.
func Forget(dir, reader string) (f Forgotten, err error) {
	err = offline(dir, "forget", func(d *DirFS) error {
		j := newView(d)
		rec, err := j.recover(nil)
		if err != nil {
			return fmt.Errorf("journal: %s: %w", d.dir, err)
		}
		r, ok := j.readers.byName[reader]
		if !ok {
			names := strings.Join(slices.Sorted(maps.Keys(j.readers.byName)), ", ")
			if names == "" {
				names = "none"
			}
			return fmt.Errorf("journal: forget: no reader %q: there are: %s", reader, names)
		}
		f.Depth = r.Depth()
		j.readers.forget(r)
		// As long as a checkpoint knows the reader, its files have to be there.
		for n := uint64(1); n <= 2; n++ {
			if err := j.writeSnapshot(rec.lastSnapshot + n); err != nil {
				return fmt.Errorf("journal: forget: %w", err)
			}
		}
		free := rec.free
		for _, s := range j.segments {
			if j.reclaimable(s) {
				free = append(free, s.name())
			}
		}
		for _, name := range free {
			f.Freed += fileSize(d.dir, name)
			if err := d.Remove(name); err != nil {
				return fmt.Errorf("journal: forget: %w", err)
			}
		}
		return d.SyncDir()
	})
	return f, err
}
