package change

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"holdfast/broker/listen"
	"holdfast/gateway/config"
)

// Source is the files of a configuration. Methods are safe for concurrent use.
type Source struct {
	names []string
	opts  config.Options

	mu      sync.Mutex
	started *reading // that of Load
}

// NewSource returns the source that config.Load takes these for.
func NewSource(names []string, opts config.Options) *Source {
	return &Source{names: slices.Clone(names), opts: opts}
}

// reading is what was found in a configuration's files.
type reading struct {
	names  []string       // of every file that was looked at
	stamps []listen.Stamp // of them, from before that
	sum    [sha256.Size]byte
	whole  bool // every file of the configuration ends with a line
}

// now says whether no file has changed since.
func (r *reading) now() bool {
	return r != nil && slices.Equal(r.stamps, listen.Stamps(r.names...))
}

// Load reads the configuration that a gateway starts with.
func (s *Source) Load() (*config.Config, error) {
	cfg, r, err := s.load(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = r
	return cfg, err
}

// load reads the configuration, with texts in the place of what is in files.
func (s *Source) load(texts map[string][]byte) (*config.Config, *reading, error) {
	opts, r := s.look(texts)
	cfg, err := config.Load(s.names, opts)
	return cfg, r, err
}

// look returns options whose use is noted in a reading.
func (s *Source) look(texts map[string][]byte) (config.Options, *reading) {
	r := &reading{whole: true}
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

// text is what counts as the text of a file.
func (s *Source) text(name string, most int64, texts map[string][]byte) ([]byte, error) {
	if text, ok := texts[name]; ok {
		return text, nil
	}
	return config.ReadFile(name, most)
}

// Show returns the text of the configuration without its secrets, and what is wrong with it.
func (s *Source) Show() (string, error) {
	opts, _ := s.look(nil)
	return config.Show(s.names, opts)
}
