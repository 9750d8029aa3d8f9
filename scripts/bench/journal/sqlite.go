package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite"
)

// sqliteStore is a table with the number as its row id, in WAL mode with synchronous=FULL, which
// synchronises the WAL at every commit. The one process that uses it holds its lock for good, which
// saves the shared index. Rows are inserted many at a time: a statement costs more than a row.
type sqliteStore struct {
	db     *sql.DB
	conn   *sql.Conn
	one    *sql.Stmt
	many   *sql.Stmt
	forget *sql.Stmt
	get    *sql.Stmt
	held   uint64
	args   []any
}

const sqliteRows = 64

func openSQLite(dir string) (queue, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "queue.db")+
		"?_pragma=locking_mode(EXCLUSIVE)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	s := &sqliteStore{db: db}
	if s.conn, err = db.Conn(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := s.exec("CREATE TABLE IF NOT EXISTS queue (n INTEGER PRIMARY KEY, m BLOB NOT NULL)"); err != nil {
		return nil, errors.Join(err, s.close())
	}
	for text, to := range map[string]**sql.Stmt{
		"INSERT INTO queue VALUES (?, ?)":                                            &s.one,
		"INSERT INTO queue VALUES (?, ?)" + strings.Repeat(", (?, ?)", sqliteRows-1): &s.many,
		"DELETE FROM queue WHERE n < ?":                                              &s.forget,
		"SELECT m FROM queue WHERE n >= ? ORDER BY n LIMIT ?":                        &s.get,
	} {
		if *to, err = s.conn.PrepareContext(ctx, text); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return newGroup(s)
}

func (s *sqliteStore) exec(text string) error {
	_, err := s.conn.ExecContext(context.Background(), text)
	return err
}

func (s *sqliteStore) bounds() (first, next uint64, err error) {
	row := s.conn.QueryRowContext(context.Background(), "SELECT coalesce(min(n), 1), coalesce(max(n) + 1, 1) FROM queue")
	err = row.Scan(&first, &next)
	s.held = first
	return first, next, err
}

func (s *sqliteStore) commit(first uint64, messages [][]byte, acked uint64) error {
	err := s.exec("BEGIN IMMEDIATE")
	if err == nil {
		err = s.change(first, messages, acked)
	}
	if err != nil {
		return errors.Join(err, s.exec("ROLLBACK"))
	}
	s.held = max(s.held, acked)
	return s.exec("COMMIT")
}

func (s *sqliteStore) change(first uint64, messages [][]byte, acked uint64) error {
	for len(messages) > 0 {
		rows, stmt := 1, s.one
		if len(messages) >= sqliteRows {
			rows, stmt = sqliteRows, s.many
		}
		s.args = s.args[:0]
		for _, m := range messages[:rows] {
			s.args = append(s.args, int64(first), m)
			first++
		}
		if _, err := stmt.Exec(s.args...); err != nil {
			return err
		}
		messages = messages[rows:]
	}
	if acked > s.held {
		if _, err := s.forget.Exec(int64(acked)); err != nil {
			return err
		}
	}
	return nil
}

func (s *sqliteStore) read(from uint64, limit int, f func([]byte)) (n int, err error) {
	rows, err := s.get.Query(int64(from), limit)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var m sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&m); err != nil {
			return n, err
		}
		f(m)
		n++
	}
	return n, rows.Err()
}

func (s *sqliteStore) close() (err error) {
	for _, stmt := range []*sql.Stmt{s.one, s.many, s.forget, s.get} {
		if stmt != nil {
			err = errors.Join(err, stmt.Close())
		}
	}
	return errors.Join(err, s.conn.Close(), s.db.Close())
}
