package gateway

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"holdfast/broker/journal"
	"holdfast/gateway/config"
)

// openJournal opens the journal. If the storage has failed the gateway goes on without: it measures and
// delivers live, and refuses to acknowledge what would have to be kept.
func (a *Agent) openJournal(openDisk func(dir string) (journal.FS, error)) error {
	dir := filepath.Join(a.cfg.DataDir, "journal")
	if openDisk == nil {
		openDisk = func(dir string) (journal.FS, error) { return journal.NewDirFS(dir) }
	}
	j := a.cfg.Journal
	opts := journal.Options{
		MaxSize: j.MaxSize, KeepFree: j.KeepFree, MaxAge: j.MaxAge, CommitEvery: j.CommitEvery, Progress: a.progress.loop("journal"), Log: a.log,
		Number: readingNumber(a.cfg.Device.ID),
	}
	if j.WhenFull == config.RefuseNew {
		opts.WhenFull = journal.RefuseNew
	}
	var err error
	if opts.Beside, err = openDisk(a.cfg.DataDir); err == nil {
		opts.FS, err = openDisk(dir)
	}
	if err == nil {
		a.journal, err = journal.Open(opts)
	} else if !storageFailed(err) {
		return fmt.Errorf("data_dir: %w: choose a directory that this user may write to", err)
	}
	if err != nil {
		if !storageFailed(err) {
			return err
		}
		a.log.Error("the storage of the journal fails: readings and messages are delivered live and kept nowhere, "+
			"and nothing is acknowledged that would have to be kept; mend or replace the storage, or choose another data_dir, and start holdfast again",
			"journal", dir, "error", err)
		a.broken = err
		opts.FS, opts.Beside, opts.Log = brokenFS{err}, nil, nil // it has been said
		if a.journal, err = journal.Open(opts); err != nil {
			return err
		}
	}
	a.close = append(a.close, a.closeJournal)
	a.sign()
	return nil
}

// deviceKey is where the journal keeps the id of the device that it belongs to.
const deviceKey = "gateway/device"

// sign notes whose the journal is, and whether it was another device's before.
func (a *Agent) sign() {
	id := a.cfg.Device.ID
	value, _ := a.journal.Get(deviceKey)
	was := string(value)
	if was == id {
		return
	}
	if a.foreign = was; was != "" {
		a.log.Warn("the data directory was written by another device: if it was copied from another gateway, an unknown number of messages of this one is lost; if the device was renamed, nothing is",
			"data_dir", a.cfg.DataDir, "device", id, "was", was)
	}
	// Should this not become durable, it is noted at the next start.
	_ = a.journal.Append(journal.Entry{Changes: []journal.Change{{Key: deviceKey, Value: []byte(id)}}, Lazy: true})
}

func (a *Agent) closeJournal() error {
	err := a.journal.Close()
	if a.broken != nil {
		return nil // there is no last snapshot, as was to be expected
	}
	return err
}

// storageFailed tells a device that fails from what a person has to decide: permissions, another process,
// a newer format.
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
