package main

import (
	"fmt"

	"github.com/tidwall/wal"
)

// tidwallStore writes each commit with one WriteBatch, synchronised. Cutting off the front writes the
// rest of a segment anew, so that happens once per forgetEvery messages.
type tidwallStore struct {
	l    *wal.Log
	b    wal.Batch
	held uint64
}

func openTidwall(dir string) (queue, error) {
	l, err := wal.Open(dir, &wal.Options{NoCopy: true})
	if err != nil {
		return nil, err
	}
	return newGroup(&tidwallStore{l: l})
}

func (s *tidwallStore) bounds() (first, next uint64, err error) {
	if first, err = s.l.FirstIndex(); err != nil {
		return 0, 0, err
	}
	last, err := s.l.LastIndex()
	s.held = max(first, 1)
	return s.held, last + 1, err
}

func (s *tidwallStore) commit(first uint64, messages [][]byte, acked uint64) error {
	if len(messages) > 0 {
		for i, m := range messages {
			s.b.Write(first+uint64(i), m)
		}
		if err := s.l.WriteBatch(&s.b); err != nil {
			return err
		}
	}
	if acked < s.held+forgetEvery {
		return nil
	}
	s.held = min(acked, first+uint64(len(messages))-1) // the last message stays
	return s.l.TruncateFront(s.held)
}

func (s *tidwallStore) read(from uint64, limit int, f func([]byte)) (n int, err error) {
	last, err := s.l.LastIndex()
	if err != nil {
		return 0, err
	}
	for ; n < limit && from <= last; n++ {
		m, err := s.l.Read(from)
		if err != nil {
			return n, fmt.Errorf("message %d: %w", from, err)
		}
		f(m)
		from++
	}
	return n, nil
}

func (s *tidwallStore) close() error { return s.l.Close() }
