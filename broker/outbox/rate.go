package outbox

import "time"

// Rate is the most that is sent per second; 0 means no limit. It is a bucket that holds a second's worth: an unused
// second may be used in the next, and no more. A message longer than that goes when the
// bucket is full, and the next ones wait until it is paid for.
type Rate struct {
	Messages int
	Bytes    int64 // of topics, payloads and properties
}

// limiter is two buckets; a message needs room in both. It is for one goroutine.
type limiter struct{ messages, content bucket }

// newLimiter allows percent of a rate.
func newLimiter(r Rate, percent int) limiter {
	part := func(n float64) bucket { return bucket{perSecond: n * float64(percent) / 100} }
	return limiter{part(float64(r.Messages)), part(float64(r.Bytes))}
}

// wait returns how long nothing may be sent.
func (l *limiter) wait() time.Duration {
	now := time.Now()
	return max(l.messages.wait(now), l.content.wait(now))
}

func (l *limiter) take(bytes int) {
	l.messages.level--
	l.content.level -= float64(bytes)
}

// bucket fills by so much per second, and is below zero after something large.
type bucket struct {
	perSecond float64 // 0 is a bucket that is never empty
	level     float64
	filled    time.Time
}

func (b *bucket) wait(now time.Time) time.Duration {
	if b.perSecond == 0 {
		return 0
	}
	room := max(1, b.perSecond)
	if b.filled.IsZero() {
		b.level = room
	} else {
		b.level = min(room, b.level+b.perSecond*now.Sub(b.filled).Seconds())
	}
	b.filled = now
	need := min(1, b.perSecond)
	if b.level >= need {
		return 0
	}
	return time.Duration((need-b.level)/b.perSecond*float64(time.Second)) + time.Microsecond
}
