package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Damage is one place that cannot be read back.
type Damage struct {
	File     string
	Offset   int64             // in the file
	Bytes    int64             // 0 if records are missing and no damaged bytes are in their place
	First    uint64            // first message that is missing here, 0 if none is
	Last     uint64            // the last one
	What     string            // what is wrong, for people
	Segment  bool              // the file as a whole cannot be used
	Known    bool              // Repair has dealt with it: the corrupt bytes are in the quarantined file
	Affected map[string]uint64 // how many messages of the file each reader was owed and cannot get; nil if it is not known
}

// whatMissing names damage that shows only in the numbers: a write that never reached the disk,
// or records that Repair took out.
const whatMissing = "nothing stands where records should be"

// Report is what Verify found.
type Report struct {
	Damage    []Damage
	Torn      int64    // bytes of a last batch that was never acknowledged: nothing is lost with them
	Records   uint64   // read and whole
	Messages  uint64   // of them
	Bytes     int64    // read
	Snapshots int      // read and whole
	Unused    int      // segment files that hold nothing needed
	Foreign   []string // files that are none of the journal's
	Aside     []string // corrupt files that were quarantined earlier
}

// Damaged reports whether there is damage that Repair has not dealt with.
func (r *Report) Damaged() bool {
	return slices.ContainsFunc(r.Damage, func(d Damage) bool { return !d.Known })
}

// Verify reads everything that the log needs and reports what cannot be read, exactly. Beside a
// running process damage counts only if it is seen twice, because a batch may be half written.
func (v *View) Verify() (*Report, error) {
	r := &Report{Unused: len(v.r.free), Foreign: v.j.recovery.Foreign, Torn: v.j.recovery.Torn}
	inLog := map[string]bool{}
	for _, s := range v.j.segments {
		inLog[s.name()] = true
	}
	for _, f := range v.files {
		switch {
		case strings.HasSuffix(f.Name, quarantineSuffix):
			r.Aside = append(r.Aside, f.Name)
		case strings.HasSuffix(f.Name, snapSuffix):
			v.verifySnapshot(f, r)
		case slices.Contains(v.j.recovery.Aside, quarantineName(v.files, f.Name)) && !inLog[f.Name]:
			r.Damage = append(r.Damage, Damage{
				File: f.Name, Bytes: f.Size, What: v.whyUnusable(f.Name), Segment: true,
			})
		}
	}
	v.vanished(r)
	total := v.total(v.j.segments)
	for _, s := range v.j.segments {
		damage, err := v.verifySegment(s, r, total)
		if err != nil {
			return nil, err
		}
		if len(damage) > 0 && v.holder != 0 {
			again, err := v.verifySegment(s, &Report{}, 0)
			if err != nil {
				return nil, err
			}
			damage = slices.DeleteFunc(damage, func(d Damage) bool {
				return !slices.ContainsFunc(again, func(a Damage) bool { return a.Offset == d.Offset })
			})
		}
		r.Damage = append(r.Damage, damage...)
		v.progress(r.Bytes, total)
	}
	return r, nil
}

func (v *View) verifySnapshot(f FileInfo, r *Report) {
	if _, ok := parseName(f.Name, snapSuffix); !ok {
		return
	}
	b, err := v.j.readFile(f.Name)
	if os.IsNotExist(err) && v.holder != 0 {
		return
	}
	if err == nil {
		_, err = newView(v.j.fs).decodeSnapshot(b)
	}
	if err != nil {
		r.Damage = append(r.Damage, Damage{File: f.Name, Bytes: f.Size, What: "snapshot: " + err.Error(), Segment: true})
		return
	}
	r.Snapshots++
}

func (v *View) whyUnusable(name string) string {
	f, err := v.j.fs.Open(name, false)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err = readHeader(f); err != nil {
		return "segment: " + err.Error()
	}
	return "segment: cannot be read"
}

// vanished reports segments whose file is gone. A view has already taken them out of the log.
func (v *View) vanished(r *Report) {
	for _, name := range v.j.recovery.Aside {
		if name, ok := strings.CutSuffix(name, " (vanished)"); ok {
			r.Damage = append(r.Damage, Damage{File: name, What: "the file is gone", Segment: true})
		}
	}
}

// verifySegment reads one segment and adds what it could read to r.
func (v *View) verifySegment(s *segment, r *Report, total int64) ([]Damage, error) {
	f, ok, err := v.openSegment(s)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if !ok {
		v.Recycled++
		return nil, nil
	}
	defer f.Close()
	damage := verifyHeader(s, f)
	add := func(from, to int64, what string) {
		damage = append(damage, Damage{File: s.name(), Offset: from, Bytes: to - from, What: what})
	}
	limit := s.end
	last := v.j.segments[len(v.j.segments)-1] == s
	if last && v.holder != 0 { // it grows, and the last batch seen may have been half written
		limit = max(limit, fileSize(v.dir.dir, s.name()))
	}
	sure := 0 // so many damages are before the last batch that is whole
	missing := func(from, to uint64, behind int64, at int64) {
		// Of a compacted segment most numbers are missing; only where there is damage it means anything.
		if n := len(damage); n > 0 && damage[n-1].First == 0 && damage[n-1].Offset >= behind && damage[n-1].Bytes > 0 {
			damage[n-1].First, damage[n-1].Last = from, to
			return
		}
		if s.compacted {
			return
		}
		damage = append(damage, Damage{File: s.name(), Offset: behind, Bytes: at - behind, First: from, Last: to, What: whatMissing})
	}
	seen := map[uint64]uint64{}
	expect, behind, clock := s.base, int64(headerSize), s.clock
	sc := newScanner(f, &s.header, headerSize, limit, func(g region) { add(g.from, g.to, "bytes do not match their checksum") })
	for n := 1; ; n++ {
		fr, ok := sc.next()
		if !ok {
			break
		}
		if fr.batchStart {
			sure = len(damage)
		}
		if fr.kind == kindMessage {
			if fr.seq > expect {
				missing(expect, fr.seq-1, behind, fr.offset)
				sure = max(sure, len(damage))
			}
			expect, behind = fr.seq+1, fr.offset+int64(align(frameHeader+len(fr.body)))
			r.Messages++
			p := parser{b: fr.body}
			p.owed(func(o owedTo) { seen[o.reader]++ })
		}
		if _, err := v.record(s, fr, &clock); err != nil {
			add(fr.offset, fr.offset+int64(frameHeader+len(fr.body)), "record: "+err.Error())
		}
		r.Records++
		if total > 0 && n%1024 == 0 {
			v.progress(r.Bytes+fr.offset, total)
		}
	}
	if last && v.holder != 0 {
		damage = damage[:sure]
	} else if s.next > expect {
		missing(expect, s.next-1, behind, s.end)
	}
	if !v.still(f, s) {
		v.Recycled++
		return nil, nil
	}
	r.Bytes += s.end
	return v.explain(s, damage, seen), nil
}

// verifyHeader looks at both copies of a segment's header. One is enough to read it.
func verifyHeader(s *segment, f File) (damage []Damage) {
	b := make([]byte, headerSize)
	n, _ := f.ReadAt(b, 0)
	good := 0
	for _, at := range []int{0, headerCopy} {
		one := make([]byte, headerSize)
		copy(one, b[at:max(at, min(at+headerUsed, n))])
		if h, err := decodeHeader(one); err == nil && h.salt == s.salt {
			good++
		} else {
			damage = append(damage, Damage{File: s.name(), Offset: int64(at), Bytes: headerUsed, What: "a copy of the header"})
		}
	}
	return damage
}

// explain fills in which readers miss what, where the checkpoint has it, and what Repair has dealt with.
func (v *View) explain(s *segment, damage []Damage, seen map[uint64]uint64) []Damage {
	affected := map[string]uint64{}
	for id, r := range v.j.readers.byID {
		if owed := s.owed[id].count + s.missing[id]; owed > seen[id] {
			affected[r.reg.name] = owed - seen[id]
		}
	}
	if s.compacted && len(damage) == 0 && len(affected) > 0 {
		damage = append(damage, Damage{File: s.name(), Offset: headerSize, First: s.base, Last: s.next - 1, What: whatMissing})
	}
	quarantined := slices.ContainsFunc(v.files, func(f FileInfo) bool { return f.Name == s.name()+quarantineSuffix })
	for i := range damage {
		d := &damage[i]
		d.Known = quarantined && d.What == whatMissing
		if d.First != 0 && len(affected) > 0 {
			d.Affected = affected
		}
	}
	return damage
}

func fileSize(dir, name string) int64 {
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		return 0
	}
	return info.Size() &^ (sector - 1)
}
