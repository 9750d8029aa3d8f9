package main

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleStore uses the number as the key. Every commit is one batch, synchronised in the write-ahead
// log, whose files pebble uses again; messages are forgotten by one range deletion in the same batch.
// The memtable is large enough for most of them to be forgotten before they reach a table.
type pebbleStore struct {
	db   *pebble.DB
	held uint64
}

type pebbleQuiet struct{}

func (pebbleQuiet) Infof(string, ...any)  {}
func (pebbleQuiet) Errorf(string, ...any) {}
func (pebbleQuiet) Fatalf(format string, args ...any) {
	pebble.DefaultLogger.Fatalf(format, args...)
}

func openPebble(dir string) (queue, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		MemTableSize: 8 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleQuiet{},
	})
	if err != nil {
		return nil, err
	}
	return newGroup(&pebbleStore{db: db})
}

func (s *pebbleStore) bounds() (first, next uint64, err error) {
	first, next = 1, 1
	it, err := s.db.NewIter(nil)
	if err != nil {
		return 0, 0, err
	}
	if it.First() {
		first = binary.BigEndian.Uint64(it.Key())
	}
	if it.Last() {
		next = binary.BigEndian.Uint64(it.Key()) + 1
	}
	s.held = first
	return first, next, errors.Join(it.Error(), it.Close())
}

func (s *pebbleStore) commit(first uint64, messages [][]byte, acked uint64) error {
	b := s.db.NewBatch()
	defer b.Close()
	var key [8]byte
	for i, m := range messages {
		binary.BigEndian.PutUint64(key[:], first+uint64(i))
		if err := b.Set(key[:], m, nil); err != nil {
			return err
		}
	}
	if acked > s.held {
		if err := b.DeleteRange(numberKey(s.held), numberKey(acked), nil); err != nil {
			return err
		}
		s.held = acked
	}
	return b.Commit(pebble.Sync)
}

func (s *pebbleStore) read(from uint64, limit int, f func([]byte)) (n int, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: numberKey(from)})
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok && n < limit; ok = it.Next() {
		f(it.Value())
		n++
	}
	return n, errors.Join(it.Error(), it.Close())
}

func (s *pebbleStore) close() error { return s.db.Close() }
