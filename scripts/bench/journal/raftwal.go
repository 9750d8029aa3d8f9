package main

import (
	"errors"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// raftStore is a raft log with its own defaults: every StoreLogs is synchronised. The log is cut off
// at the front once per forgetEvery messages, since each cut is a transaction of its metadata.
type raftStore struct {
	w    *raftwal.WAL
	meta *metadb.BoltMetaDB // the WAL opens it, but does not close it
	held uint64
	logs []*raft.Log
}

// forgetEvery is about as many messages as fill a segment of the logs that forget by segments.
const forgetEvery = 80_000

func openRaftWAL(dir string) (queue, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	meta := &metadb.BoltMetaDB{}
	w, err := raftwal.Open(dir, raftwal.WithLogger(hclog.NewNullLogger()), raftwal.WithMetaStore(meta))
	if err != nil {
		return nil, err
	}
	return newGroup(&raftStore{w: w, meta: meta})
}

func (s *raftStore) bounds() (first, next uint64, err error) {
	if first, err = s.w.FirstIndex(); err != nil {
		return 0, 0, err
	}
	last, err := s.w.LastIndex()
	s.held = max(first, 1)
	return s.held, last + 1, err
}

func (s *raftStore) commit(first uint64, messages [][]byte, acked uint64) error {
	for len(s.logs) < len(messages) {
		s.logs = append(s.logs, &raft.Log{})
	}
	for i, m := range messages {
		s.logs[i].Index, s.logs[i].Data = first+uint64(i), m
	}
	if len(messages) > 0 {
		if err := s.w.StoreLogs(s.logs[:len(messages)]); err != nil {
			return err
		}
	}
	if acked < s.held+forgetEvery {
		return nil
	}
	// The last message stays: it tells the next number.
	acked = min(acked, first+uint64(len(messages))-1)
	err := s.w.DeleteRange(s.held, acked-1)
	s.held = acked
	return err
}

func (s *raftStore) read(from uint64, limit int, f func([]byte)) (n int, err error) {
	last, err := s.w.LastIndex()
	if err != nil {
		return 0, err
	}
	var l raft.Log
	for ; n < limit && from <= last; n++ {
		if err := s.w.GetLog(from, &l); err != nil {
			return n, err
		}
		f(l.Data)
		from++
	}
	return n, nil
}

func (s *raftStore) close() error { return errors.Join(s.w.Close(), s.meta.Close()) }
