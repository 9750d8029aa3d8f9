package reconfigure

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// marker is the note of a trial in data_dir, from before the gateway uses the new configuration until that is
// confirmed. Whatever ends the process in between, the next start finds it and uses the earlier one. It stays
// if the earlier text cannot be put in place: a unit that is not allowed to write to /etc then uses the marker.
type marker struct {
	Version int       `json:"version"` // markerVersion
	File    string    `json:"file"`    // of the configuration, absolute
	Digest  string    `json:"sha256"`  // of the text that is on trial
	Earlier []byte    `json:"earlier"` // the text that was there before
	Begun   time.Time `json:"begun"`
	// Renamed are bridges by their earlier names, and what the text on trial calls them: their backlog goes
	// back with them.
	Renamed map[string]string `json:"renamed,omitempty"`
	Why     string            `json:"rolled_back,omitempty"` // why it was; empty while it is on trial

	path string
}

const (
	markerName    = "configuration-on-trial.json"
	markerVersion = 1
)

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// holds reports whether text is the one that is or was on trial.
func (m *marker) holds(text []byte) bool { return digest(text) == m.Digest }

func (m *marker) write() error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return write(m.path, text, nil)
}

func (m *marker) remove() error {
	if err := os.Remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(m.path))
}

// readMarker returns nil if there is none.
func readMarker(dir string) (*marker, error) {
	m := &marker{path: filepath.Join(dir, markerName)}
	text, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	if m.Version != markerVersion {
		return nil, fmt.Errorf("%s: got version %d, want %d: it is a newer holdfast's", m.path, m.Version, markerVersion)
	}
	return m, nil
}

// Start is Load for a gateway that starts. It first rolls back a configuration that was on trial when the gateway
// ended. That configuration may be what ended the gateway, again and again; and so nothing depends on how long the
// machine was off, with a clock that may have stood still.
func (s *Source) Start(log *slog.Logger) (*config.Config, error) {
	if err := s.recover(log); err != nil {
		log.Error("the trial marker cannot be used: check the configuration, and delete this file", "error", err)
	}
	cfg, err := s.Load()
	if err == nil {
		s.back.rename(cfg)
	}
	return cfg, err
}

// rename makes the bridges of an earlier configuration adopt the backlogs of those of the one on trial.
func (m *marker) rename(cfg *config.Config) {
	if m == nil {
		return
	}
	for i := range cfg.Bridges {
		if b := &cfg.Bridges[i]; b.Was == "" {
			b.Was = m.Renamed[b.Name]
		}
	}
}

func renamed(old, now *config.Config) map[string]string {
	names := map[string]string{}
	for _, b := range now.Bridges {
		if slices.ContainsFunc(old.Bridges, func(o config.Bridge) bool { return o.Name == b.Was }) {
			names[b.Was] = b.Name
		}
	}
	return names
}

func (s *Source) recover(log *slog.Logger) error {
	_, dir := config.Where(s.names, s.opts)
	m, err := readMarker(dir)
	if m == nil {
		return err
	}
	name, err := s.find(m.File)
	if err != nil {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	text, err := config.ReadFile(name, maxFile)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !m.holds(text) { // it was not put in place, or something else was since
		return m.remove()
	}
	why := m.Why
	if why == "" {
		why = "holdfast was started again before it was confirmed"
	}
	s.back = m
	s.ended = &status.Trial{File: m.File, Begun: m.Begun, Outcome: status.RolledBack, Reason: why}
	s.ended.Unwritten = s.restore(m, why, log)
	return nil
}

const maxFile = 1 << 20 // bytes; config takes no larger ones

// restore puts the earlier text in place, unless the file has changed since the trial began. If the file cannot be
// written, the source uses the earlier text from the marker, now and after the next start.
func (s *Source) restore(m *marker, why string, log *slog.Logger) (unwritten bool) {
	text, err := config.ReadFile(m.File, maxFile)
	if err == nil && m.holds(text) {
		err = Replace(m.File, m.Earlier, false)
	}
	if err == nil {
		if err := m.remove(); err != nil {
			log.Error("could not remove the trial marker (harmless)", "error", err)
		}
		log.Warn("a configuration was rolled back", "file", m.File, "reason", why)
		return false
	}
	log.Warn("a configuration was rolled back, and its file cannot be replaced: keeping the previous configuration; "+
		"put that in place with `sudo holdfast config rollback`", "file", m.File, "reason", why, "error", err)
	m.Why = why
	if err := m.write(); err != nil { // it is still there as it was, and is found again at the next start
		log.Error("could not note the rollback in the trial marker", "error", err)
	}
	s.mu.Lock()
	s.marker = m
	s.mu.Unlock()
	return true
}
