package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server/retained"
)

const (
	replayBatch  = 64 // retained messages that are on their way to disk for a route at the same time
	replaySettle = 200 * time.Millisecond
	replayLook   = 20 * time.Millisecond
)

// Replay selects the messages, retained before a route had their filter, that SendRetained owes the route.
type Replay struct {
	Reader *journal.Reader                     // of the route
	After  string                              // topics up to this one have been sent
	Wants  func(topic string) bool             // reports whether to send a topic's message; must not block
	Sent   func(topic string) []journal.Change // returns changes that become durable with the topic's message
}

// SendRetained owes a route the retained messages, in the order of their topics, with RETAIN and at QoS 1, so that none
// is lost while the bridge is offline. It skips a topic of which the route is already owed this value or a newer one. It
// waits for the disk after each batch and returns how many messages are durable. After an error, or the end of ctx, the
// changes of the last durable message show where to continue.
func (s *Server) SendRetained(ctx context.Context, r Replay) (sent int, err error) {
	// What found its subscribers before the route was there may not have reached the store yet.
	if !wait(ctx, replaySettle) {
		return 0, ctx.Err()
	}
	done := make(batchDone, replayBatch)
	topics := s.retained.Topics(r.Wants, r.After)
	for batch := range slices.Chunk(topics, replayBatch) {
		under := 0
		for _, topic := range batch {
			var owed bool
			if owed, err = s.replay(ctx, r, topic, done); err != nil {
				break
			}
			if owed {
				under++
			}
		}
		for range under {
			if failed := <-done; failed != nil {
				err = errors.Join(err, failed)
			} else {
				sent++
			}
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// replay owes the retained message of one topic. It holds the topic's lane, so that a later publish follows it in
// the journal.
func (s *Server) replay(ctx context.Context, r Replay, topic string, done batchDone) (owed bool, err error) {
	lane := s.retained.Lane(topic)
	for {
		lane.Lock()
		k, onTheirWay := s.retained.Latest(topic)
		s.routes.mu.Lock()
		route := s.routes.byReader[r.Reader]
		s.routes.mu.Unlock()
		if route == nil {
			lane.Unlock()
			return false, errors.New("the route has ended")
		}
		if k.Message != nil && k.Matched >= route.version || k.Message == nil && !onTheirWay {
			lane.Unlock()
			return false, nil
		}
		if !onTheirWay {
			defer lane.Unlock()
			m, alive := s.replayed(k)
			if !alive {
				return false, nil
			}
			reader := r.Reader
			if pick := route.target.pick.Load(); pick != nil {
				reader = (*pick)(topic, k.Own)
			}
			return true, s.journal.Append(journal.Entry{
				Message: m, Owed: []journal.Owed{{Reader: reader, QoS: 1, Retain: true}}, Changes: r.Sent(topic), Lazy: true, Done: done,
			})
		}
		lane.Unlock() // a newer one may have found its subscribers before the route was there
		if !wait(ctx, replayLook) {
			return false, ctx.Err()
		}
	}
}

// replayed returns a retained message with its remaining lifetime, and whether that is not over.
func (s *Server) replayed(k retained.Entry) (_ *broker.Message, alive bool) {
	m := *k.Message
	m.QoS = 1
	if m.Expires {
		m.Expiry, alive = journal.Remaining(m.Expiry, s.journal.Waited(k.At))
		return &m, alive
	}
	return &m, true
}

// batchDone receives the outcome of each message of a batch, and has room for all of them.
type batchDone chan error

func (c batchDone) Committed(_ *journal.Entry, _ uint64, err error) { c <- err }

// wait waits for d and returns true, or false as soon as ctx ends.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
