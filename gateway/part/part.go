// Package part is the seam between the gateway and what runs in it: a part knows how to run, how to apply
// another configuration and how it is doing. It knows no other part, and not the gateway.
package part

import (
	"context"

	"holdfast/gateway/config"
)

// Part is one component of a running gateway.
//
// The gateway builds all parts, starts them in the order of its list and stops them in the reverse order: each
// Run has returned before the next part is stopped. It calls Prepare and the functions of the Change, one part
// at a time, only while every part runs.
type Part interface {
	// Name is for logs and errors.
	Name() string
	// Prepare does everything that may fail of applying next. After an error the part is as it was.
	Prepare(next *config.Config) (Change, error)
	// Run works until ctx ends. An error that comes earlier ends the gateway.
	Run(ctx context.Context) error
	// Health returns nil if the part is well, or what is wrong with it. It may be called at any time.
	Health() error
}

// Change is a configuration that a part has prepared. Either Undo is called, or Stop and later Apply: Stop of
// all parts in the order in which parts are stopped, then Apply of all in the order in which they are started.
// None of them fails. A nil function does nothing.
type Change struct {
	Stop  func()
	Apply func()
	Undo  func()
	// Describe returns what has changed, a line each. It is called after Apply.
	Describe func() []string
}

// Simple makes a Part of functions. A nil function does nothing; without Start, Run waits for the end.
type Simple struct {
	Called string
	Change func(next *config.Config) (Change, error)
	Start  func(ctx context.Context) error
	Well   func() error
}

// Name returns s.Called.
func (s Simple) Name() string { return s.Called }

// Prepare calls s.Change.
func (s Simple) Prepare(next *config.Config) (Change, error) {
	if s.Change == nil {
		return Change{}, nil
	}
	return s.Change(next)
}

// Run calls s.Start.
func (s Simple) Run(ctx context.Context) error {
	if s.Start == nil {
		<-ctx.Done()
		return nil
	}
	return s.Start(ctx)
}

// Health calls s.Well.
func (s Simple) Health() error {
	if s.Well == nil {
		return nil
	}
	return s.Well()
}
