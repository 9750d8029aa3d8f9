package journal

// noSync is a directory whose files are not synchronised, for tests that write much and cut nothing.
type noSync struct{ *DirFS }

type noSyncFile struct{ File }

func (noSyncFile) Datasync() error { return nil }

func (noSync) SyncDir() error { return nil }

func (n noSync) Open(name string, write bool) (File, error) {
	f, err := n.DirFS.Open(name, write)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

// withoutSync is for open.
func withoutSync(o *Options) { o.FS = noSync{o.FS.(*DirFS)} }
