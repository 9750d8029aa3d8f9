package bridge

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/broker/backoff"
	"holdfast/broker/wire"
)

const (
	// rivalSwaps is how many connections in a row an upstream of 3.1.1 has to accept and end before the bridge reports
	// another client with the identifier. Fewer happen on links that break by themselves.
	rivalSwaps = 6
	rivalLife  = 30 * time.Second        // longest life of such a connection
	rivalEven  = 1500 * time.Millisecond // how far apart their lives may be, or a fifth of the longest
	// rivalMemory is how long the problem stays after the last swap. It is longer than two of them are apart.
	rivalMemory = 15 * time.Minute
	rivalWaits  = 5 // the longest wait between two attempts, in BackoffMax
)

// rival finds another client with the same identifier: the upstream ends the connection of the one when the other
// connects ([MQTT-3.1.4-3], 3.1.1 [MQTT-3.1.4-2]), so that they swap for ever. MQTT 5 reports it as 0x8E. Over 3.1.1 it shows
// in connections that are accepted at once and ended soon, each after about as long, with nothing unconfirmed. A link that
// ends connections as evenly looks the same. It belongs to Run's goroutine.
type rival struct {
	lives []time.Duration // of the last connections in a row, at most rivalSwaps
	wait  backoff.Backoff
}

// note evaluates the end of a connection and reports whether another client has taken its place.
func (r *rival) note(s *connection, err error, now time.Time) bool {
	life := now.Sub(s.began)
	if life >= rivalLife {
		r.wait.Reset()
	}
	var said *reasonError
	if errors.As(err, &said) && said.packet == wire.DISCONNECT && said.code == wire.SessionTakenOver {
		return true
	}
	unconfirmed := s.f.Doubtful() || s.presence.id != 0
	if !errors.Is(err, errClosed) || life >= rivalLife || unconfirmed {
		r.lives = r.lives[:0]
		return false
	}
	if len(r.lives) == rivalSwaps {
		r.lives = slices.Delete(r.lives, 0, 1)
	}
	r.lives = append(r.lives, life)
	most := slices.Max(r.lives)
	return len(r.lives) == rivalSwaps && most-slices.Min(r.lives) <= max(rivalEven, most/5)
}

// unreachable records that a connection was not accepted, which another client does not cause.
func (r *rival) unreachable() { r.lives = r.lives[:0] }

// takenOver reports another client with the same identifier, and returns how long to wait.
func (b *Bridge) takenOver(now time.Time) time.Duration {
	text := fmt.Sprintf("another client uses the identifier %.100q on the upstream, and each pushes the other out; give each gateway its own `client_id`", b.opts.ClientID)
	if b.problem("rival", text, now.Add(rivalMemory)) {
		b.log.Error("another client uses the identifier on the upstream, and each pushes the other out: give each gateway its own `client_id`", "client_id", b.opts.ClientID)
	}
	return b.rival.wait.Next()
}
