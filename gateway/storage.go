package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"holdfast/broker/journal"
	"holdfast/gateway/config"
)

// storage is the journal and its problems.
type storage struct {
	*journal.Journal
	broken  error  // why it keeps nothing; nil if it does
	foreign string // the other device that wrote it before; empty if there is none
}

// openStorage opens the journal. If the storage has failed the gateway goes on without: it measures and
// delivers live, and refuses to acknowledge what would have to be kept.
func openStorage(cfg *config.Config, openDisk func(dir string) (journal.FS, error), busy func(bool), log *slog.Logger) (*storage, error) {
	s := &storage{}
	dir := filepath.Join(cfg.DataDir, "journal")
	if openDisk == nil {
		openDisk = func(dir string) (journal.FS, error) { return journal.NewDirFS(dir) }
	}
	j := cfg.Journal
	opts := journal.Options{
		MaxSize: j.MaxSize, KeepFree: j.KeepFree, MaxAge: j.MaxAge, CommitEvery: j.CommitEvery, Progress: busy, Log: log,
		Number: readingNumber(cfg.Device.ID),
	}
	if j.WhenFull == config.RefuseNew {
		opts.WhenFull = journal.RefuseNew
	}
	var err error
	if opts.Beside, err = openDisk(cfg.DataDir); err == nil {
		opts.FS, err = openDisk(dir)
	}
	if err == nil {
		s.Journal, err = journal.Open(opts)
	} else if !storageFailed(err) {
		return nil, fmt.Errorf("data_dir: %w: choose a directory that this user may write to", err)
	}
	if err != nil {
		if !storageFailed(err) {
			return nil, err
		}
		log.Error("the storage of the journal fails: readings and messages are delivered live and kept nowhere, "+
			"and nothing is acknowledged that would have to be kept; mend or replace the storage, or choose another data_dir, and start holdfast again",
			"journal", dir, "error", err)
		s.broken = err
		opts.FS, opts.Beside, opts.Log = brokenFS{err}, nil, nil // logged above
		if s.Journal, err = journal.Open(opts); err != nil {
			return nil, err
		}
	}
	s.sign(cfg, log)
	return s, nil
}

// deviceKey is where the journal keeps the id of the device that it belongs to.
const deviceKey = "gateway/device"

// sign notes the device that owns the journal, and whether another one wrote it before.
func (s *storage) sign(cfg *config.Config, log *slog.Logger) {
	id := cfg.Device.ID
	value, _ := s.Get(deviceKey)
	was := string(value)
	if was == id {
		return
	}
	if s.foreign = was; was != "" {
		log.Warn("the data directory was written by another device: if it was copied from another gateway, an unknown number of messages of this one is lost; if the device was renamed, nothing is",
			"data_dir", cfg.DataDir, "device", id, "was", was)
	}
	// Should this not become durable, it is noted at the next start.
	_ = s.Append(journal.Entry{Changes: []journal.Change{{Key: deviceKey, Value: []byte(id)}}, Lazy: true})
}

// Close closes the journal.
func (s *storage) Close() error {
	err := s.Journal.Close()
	if s.broken != nil {
		return nil // there is no last snapshot, as was to be expected
	}
	return err
}

// storageFailed reports whether the storage device fails. Permissions, another process and a newer format are for
// a person to solve.
func storageFailed(err error) bool {
	return slices.ContainsFunc([]error{
		unix.EIO, unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.EUCLEAN, unix.EBADMSG, unix.ENODEV, unix.ENXIO,
	}, func(e error) bool { return errors.Is(err, e) })
}

// brokenFS is a disk that holds nothing and takes nothing.
type brokenFS struct{ cause error }

func (b brokenFS) Open(string, bool) (journal.File, error) { return nil, b.cause }
func (b brokenFS) Rename(string, string) error             { return b.cause }
func (b brokenFS) Remove(string) error                     { return b.cause }
func (b brokenFS) SyncDir() error                          { return b.cause }
func (b brokenFS) Free() (int64, error)                    { return 0, b.cause }
func (b brokenFS) List() ([]journal.FileInfo, error)       { return nil, nil }
func (b brokenFS) Lock() (io.Closer, error)                { return io.NopCloser(nil), nil }
