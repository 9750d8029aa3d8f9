package reconfigure

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"holdfast/gateway/config"
	"holdfast/gateway/part"
)

// Exchanger applies configurations to the parts of a gateway. Set its fields and call Start before anything else;
// methods are then safe for concurrent use.
type Exchanger struct {
	Parts []part.Part     // in the order in which they are started
	Ready <-chan struct{} // closed when they run
	// Adapt, if set, changes a configuration before it is applied.
	Adapt func(*config.Config) *config.Config
	// Begin, if set, is called before an exchange, and what it returns after it.
	Begin func() (end func())
	Log   *slog.Logger

	exchanging sync.Mutex
	ended      bool
	config     atomic.Pointer[config.Config]
}

// Start notes the configuration that the parts were made of.
func (x *Exchanger) Start(cfg *config.Config) { x.config.Store(cfg) }

// Exchange applies another configuration to the parts that run. Only what is different is stopped and started;
// everything else goes on undisturbed. The files of certificates, passwords and rules are loaded again in any
// case. It returns what has changed, in words.
//
// After an error nothing has changed: each part prepares first, whatever may fail, and undoes it. It may be called
// by several goroutines.
func (x *Exchanger) Exchange(next *config.Config) (lines []string, err error) {
	x.exchanging.Lock()
	defer x.exchanging.Unlock()
	select {
	case <-x.Ready:
	default:
		return nil, fmt.Errorf("the gateway is starting: %w", ErrNotNow)
	}
	if x.ended {
		return nil, fmt.Errorf("the gateway is stopping: %w", ErrNotNow)
	}
	if x.Begin != nil {
		defer x.Begin()()
	}
	old := x.Config()
	if x.Adapt != nil {
		next = x.Adapt(next)
	}
	if keys := config.NeedRestart(old, next); len(keys) > 0 {
		return nil, fmt.Errorf("these need a restart: %s: restart holdfast, or leave them as they are", strings.Join(keys, ", "))
	}
	// In the order in which parts are stopped: first what may fail.
	var changes []part.Change
	for _, p := range slices.Backward(x.Parts) {
		change, err := p.Prepare(next)
		if err != nil {
			for _, done := range slices.Backward(changes) {
				call(done.Undo)
			}
			return nil, err
		}
		changes = append(changes, change)
	}
	// Then what cannot, from the sensors to the upstream and back, as at a stop and a start.
	for _, change := range changes {
		call(change.Stop)
	}
	for _, change := range slices.Backward(changes) {
		call(change.Apply)
	}
	for _, change := range changes {
		if change.Describe != nil {
			lines = append(lines, change.Describe()...)
		}
	}
	x.config.Store(next)
	Warn(next, x.Log)
	return lines, nil
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// Config returns the configuration in use. It must not be changed.
func (x *Exchanger) Config() *config.Config { return x.config.Load() }

// End refuses every exchange from now on, and returns when none is under way.
func (x *Exchanger) End() {
	x.exchanging.Lock()
	defer x.exchanging.Unlock()
	x.ended = true
}

// Warn logs the warnings of a configuration, in the words of `holdfast check`.
func Warn(cfg *config.Config, log *slog.Logger) {
	for _, w := range cfg.Warnings() {
		log.Warn("warning: " + w.Error())
	}
}
