package main

import (
	"encoding/binary"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// boltStore is a bucket with the number as the key. Every commit is synchronised; the list of free
// pages is not written, as in etcd, which saves bytes and costs a scan when it is opened. Pages are
// filled up: keys only grow.
type boltStore struct {
	db   *bbolt.DB
	held uint64 // the oldest number in it
}

var bucket = []byte("queue")

func openBolt(dir string) (queue, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "bolt.db"), 0o640, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newGroup(&boltStore{db: db})
}

func (s *boltStore) bounds() (first, next uint64, err error) {
	first, next = 1, 1
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		if k, _ := c.Last(); k != nil {
			next = binary.BigEndian.Uint64(k) + 1
			k, _ = c.First()
			first = binary.BigEndian.Uint64(k)
		}
		return nil
	})
	s.held = first
	return first, next, err
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (s *boltStore) commit(first uint64, messages [][]byte, acked uint64) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		b.FillPercent = 1
		for n := s.held; n < acked; n++ {
			if err := b.Delete(numberKey(n)); err != nil {
				return err
			}
		}
		for i, m := range messages {
			if err := b.Put(numberKey(first+uint64(i)), m); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.held = max(s.held, acked)
	}
	return err
}

func (s *boltStore) read(from uint64, limit int, f func([]byte)) (n int, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, v := c.Seek(numberKey(from)); k != nil && n < limit; k, v = c.Next() {
			f(v)
			n++
		}
		return nil
	})
	return n, err
}

func (s *boltStore) close() error { return s.db.Close() }
