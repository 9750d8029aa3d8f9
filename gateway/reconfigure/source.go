package reconfigure

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"holdfast/broker/listen"
	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// Source is the files of a configuration. Methods are safe for concurrent use.
type Source struct {
	names []string
	opts  config.Options

	started *loaded       // that of Load
	back    *marker       // what Start has rolled back; nil for nothing
	ended   *status.Trial // the same, for people

	mu     sync.Mutex
	marker *marker // what was rolled back and is still in its file; nil for nothing
}

// NewSource returns the source that config.Load takes these for.
func NewSource(names []string, opts config.Options) *Source {
	return &Source{names: slices.Clone(names), opts: opts}
}

// loaded is the content of a configuration's files.
type loaded struct {
	names  []string       // of every file that was read
	stamps []listen.Stamp // of them, from before that
	sum    [sha256.Size]byte
	whole  bool // every file of the configuration ends with a line
}

// now reports whether no file has changed since.
func (r *loaded) now() bool {
	return r != nil && slices.Equal(r.stamps, listen.Stamps(r.names...))
}

// Load reads the configuration that a gateway starts with.
func (s *Source) Load() (*config.Config, error) {
	cfg, r, err := s.load(nil)
	s.started = r
	return cfg, err
}

// load reads the configuration, with texts in the place of the files' content.
func (s *Source) load(texts map[string][]byte) (*config.Config, *loaded, error) {
	opts, r := s.look(texts)
	cfg, err := config.Load(s.names, opts)
	return cfg, r, err
}

// look returns options whose use is noted in what is loaded.
func (s *Source) look(texts map[string][]byte) (config.Options, *loaded) {
	r := &loaded{whole: true}
	opts := s.opts
	opts.ReadFile = func(name string, most int64) ([]byte, error) {
		stamps := listen.Stamps(name)
		text, err := s.text(name, most, texts)
		r.names, r.stamps = append(r.names, name), append(r.stamps, stamps...)
		own := sha256.Sum256(text)
		r.sum = sha256.Sum256(fmt.Appendf(r.sum[:], "%q %x %v", name, own, err))
		if slices.Contains(s.names, name) && (len(text) == 0 || text[len(text)-1] != '\n') {
			r.whole = false
		}
		return text, err
	}
	return opts, r
}

// text returns the text to use for a file.
func (s *Source) text(name string, most int64, texts map[string][]byte) ([]byte, error) {
	if text, ok := texts[name]; ok {
		return text, nil
	}
	text, err := config.ReadFile(name, most)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.marker; err == nil && m != nil && m.File == absolute(name) {
		if m.holds(text) {
			return m.Earlier, nil
		}
		s.marker = nil // something else has been put there
		_ = m.remove() // if not, the next start does it
	}
	return text, err
}

// rolledBack returns the marker of a rollback whose file could not be replaced; nil for none.
func (s *Source) rolledBack() *marker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marker
}

// find returns the name of a file as the configuration has it. Empty means the last one.
func (s *Source) find(name string) (string, error) {
	if len(s.names) == 0 {
		return "", errNoFiles
	}
	if name == "" {
		return s.names[len(s.names)-1], nil
	}
	i := slices.IndexFunc(s.names, func(n string) bool { return absolute(n) == absolute(name) })
	if i < 0 {
		return "", fmt.Errorf("%s is no file of this gateway's configuration, want %s", name, strings.Join(s.names, " or "))
	}
	return s.names[i], nil
}

// absolute returns a file's absolute path.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// Show returns the text of the configuration without its secrets, and what is wrong with it.
func (s *Source) Show() (string, error) {
	opts, _ := s.look(nil)
	return config.Show(s.names, opts)
}
