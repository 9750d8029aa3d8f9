package uplinks

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"holdfast/broker/journal"
	"holdfast/gateway/config"
)

// clientKey is the journal's key for the client identifier of bridges without one of their own, behind the device's id and a
// zero byte. It stays while the device has that id: upstreams keep sessions for it, with messages.
const clientKey = "gateway/client"

// state is what the client identifier in use depends on.
type state interface {
	Range(prefix string, f func(key string, value []byte) bool)
	Readers() []journal.ReaderInfo
}

// clientInUse returns the client identifier of a configuration's bridges without one of their own, and whether it is stored:
// the one stored for this device id; the host name, which earlier versions took, where the reader of one of these bridges
// shows that it has run before; else fresh.
func clientInUse(s state, cfg *config.Config, fresh string) (id string, stored bool) {
	renamed := false
	s.Range(clientKey, func(key string, value []byte) bool {
		if key == clientKey {
			device, was, _ := bytes.Cut(value, []byte{0})
			if stored = string(device) == cfg.Device.ID && len(was) > 0; stored {
				id = string(was)
			}
			renamed = !stored
		}
		return !stored
	})
	if stored || renamed {
		return cmp.Or(id, fresh), stored
	}
	for _, r := range s.Readers() {
		name, ok := bridgeOf(r.Name)
		if ok && slices.ContainsFunc(cfg.Bridges, func(b config.Bridge) bool { return b.NewClientID != "" && (b.Name == name || b.Was == name) }) {
			return cfg.Device.ID, false
		}
	}
	return fresh, false
}

// freshClient is the identifier that bridges without one begin with; empty if there is no such bridge.
func freshClient(cfg *config.Config) string {
	for _, b := range cfg.Bridges {
		if b.NewClientID != "" {
			return b.NewClientID
		}
	}
	return ""
}

// withClient is a configuration whose bridges without an identifier have that one.
func withClient(cfg *config.Config, id string) *config.Config {
	c := *cfg
	c.Bridges = slices.Clone(cfg.Bridges)
	for i := range c.Bridges {
		if b := &c.Bridges[i]; b.NewClientID != "" {
			b.ClientID, b.NewClientID = id, id
		}
	}
	return &c
}

// Identity is the client identifier of bridges without one of their own.
type Identity struct {
	journal *journal.Journal
	client  string // empty until there is such a bridge
}

// NewIdentity returns what the journal has.
func NewIdentity(j *journal.Journal) *Identity { return &Identity{journal: j} }

// Apply decides on the identifier of the bridges of a configuration, and stores it. It is called before their readers are
// opened, at a start, and at a reload, which may bring the first bridge. It returns the configuration with it.
func (i *Identity) Apply(cfg *config.Config) *config.Config {
	fresh := freshClient(cfg)
	if fresh == "" {
		return cfg
	}
	if i.client == "" {
		var stored bool
		if i.client, stored = clientInUse(i.journal, cfg, fresh); !stored {
			value := []byte(cfg.Device.ID + "\x00" + i.client)
			// Before the bridges' readers: should this not become durable, neither do they.
			_ = i.journal.Append(journal.Entry{Changes: []journal.Change{{Key: clientKey, Value: value}}})
		}
	}
	return withClient(cfg, i.client)
}

// Identify returns a configuration with the client identifiers that its bridges use according to the data directory, which it
// only reads. The error is why they are unknown.
func Identify(cfg *config.Config) (*config.Config, error) {
	fresh := freshClient(cfg)
	if fresh == "" {
		return cfg, nil
	}
	dir := filepath.Join(cfg.DataDir, "journal")
	if entries, err := os.ReadDir(dir); errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return withClient(cfg, fresh), nil // it has not run yet
	}
	v, err := journal.Inspect(dir)
	if err != nil {
		return cfg, fmt.Errorf("client identifier in use: %w", err)
	}
	id, _ := clientInUse(v, cfg, fresh)
	return withClient(cfg, id), nil
}
