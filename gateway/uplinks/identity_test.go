package uplinks

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/broker/journal"
	"holdfast/gateway/config"
)

// aState is what a journal has.
type aState struct {
	stored  string
	readers []string
}

func (s aState) Range(_ string, f func(key string, value []byte) bool) {
	if s.stored != "" {
		f(clientKey, []byte(s.stored))
	}
}

func (s aState) Readers() (all []journal.ReaderInfo) {
	for _, r := range s.readers {
		all = append(all, journal.ReaderInfo{Name: r})
	}
	return all
}

// TestClientInUse: a device keeps the identifier that its upstreams know it by, and a new one begins with its own.
func TestClientInUse(t *testing.T) {
	cfg := &config.Config{Device: config.Device{ID: "pi"}, Bridges: []config.Bridge{
		{Name: "cloud", Was: "old", ClientID: "pi", NewClientID: "pi-1"}, {Name: "named", ClientID: "own"},
	}}
	for _, tt := range []struct {
		what   string
		state  aState
		id     string
		stored bool
	}{
		{"new", aState{}, "pi-1", false},
		{"of an earlier version", aState{readers: []string{"bridge/cloud/own"}}, "pi", false},
		{"of an earlier version, renamed", aState{readers: []string{"bridge/old"}}, "pi", false},
		{"a bridge that has an identifier, and a client", aState{readers: []string{"bridge/named", "client/cloud"}}, "pi-1", false},
		{"stored as new, and on a machine of another identifier", aState{"pi\x00pi-2", []string{"bridge/cloud"}}, "pi-2", true},
		{"stored as the host name", aState{"pi\x00pi", []string{"bridge/cloud"}}, "pi", true},
		{"another host name", aState{"other\x00other-2", []string{"bridge/cloud"}}, "pi-1", false},
		{"damaged", aState{"pi", []string{"bridge/cloud"}}, "pi-1", false},
	} {
		id, stored := clientInUse(tt.state, cfg, "pi-1")
		if id != tt.id || stored != tt.stored {
			t.Errorf("%s: got %s, stored %v, want %s, %v", tt.what, id, stored, tt.id, tt.stored)
		}
	}
	used := withClient(cfg, "x")
	if used.Bridges[0].ClientID != "x" || used.Bridges[1].ClientID != "own" || cfg.Bridges[0].ClientID != "pi" {
		t.Errorf("got %+v of %+v", used.Bridges, cfg.Bridges)
	}
}

// TestIdentify: commands tell the identifier in use of a gateway that does not run, also before its first start and after it.
func TestIdentify(t *testing.T) {
	cfg := &config.Config{Device: config.Device{ID: "pi"}, DataDir: t.TempDir(), Bridges: []config.Bridge{{Name: "cloud", ClientID: "pi", NewClientID: "pi-1"}}}
	is := func(what, id string) {
		t.Helper()
		used, err := Identify(cfg)
		if err != nil || used.Bridges[0].ClientID != id {
			t.Errorf("%s: got %s, %v, want %s", what, used.Bridges[0].ClientID, err, id)
		}
	}
	is("no directory", "pi-1")
	dir := filepath.Join(cfg.DataDir, "journal")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	is("empty directory", "pi-1")
	start := func(change func(a *Identity)) {
		t.Helper()
		fs, err := journal.NewDirFS(dir)
		if err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(journal.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		change(NewIdentity(j))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	open := func(a *Identity) {
		if _, err := a.journal.OpenReader("bridge/cloud"); err != nil {
			t.Error(err)
		}
	}
	start(open)
	is("after an earlier version", "pi")
	start(func(a *Identity) {
		if got := a.Apply(cfg).Bridges[0].ClientID; got != "pi" {
			t.Errorf("the gateway uses %s", got)
		}
	})
	is("kept", "pi")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	start(func(a *Identity) {
		if got := a.Apply(cfg).Bridges[0].ClientID; got != "pi-1" {
			t.Errorf("the gateway uses %s", got)
		}
		open(a)
	})
	cfg.Bridges[0].NewClientID = "pi-2" // on another machine
	is("after the first start", "pi-1")
}
