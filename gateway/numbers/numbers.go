// Package numbers numbers what the gateway publishes: no number twice, also after the journal lost its memory.
package numbers

import (
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"holdfast/broker/journal"
	"holdfast/gateway/verify"
)

const (
	// Readings is where the journal keeps the number of the last reading that was published.
	Readings = "gateway/seq"
	// skippedKey is where it keeps which numbers were left out, as pairs of varints: the epoch that left them out, and the
	// first of them. The last one is the epoch times verify.Series.
	skippedKey = "gateway/skipped"
	maxSkipped = 16 // epochs, the newest ones
)

// Last returns the last number that was given under key. After an interruption of the journal it is not known: lost
// records may have the numbers behind the one that the journal has. So numbers go on behind a multiple of
// verify.Series that is above all of them, and none is given twice. skipped is the first number that this left out, 0 if
// none was just now. The caller makes the result durable; until then a start leaves the same numbers out again.
func Last(j *journal.Journal, key string) (last, skipped uint64) {
	value, _ := j.Get(key)
	last, _ = binary.Uvarint(value)
	if epoch := j.Interruption().Epoch; epoch > last/verify.Series {
		return epoch * verify.Series, last + 1
	}
	return last, 0
}

// SkipReadings notes on disk, and logs, that the readings go on behind last. Losses of that start announce it.
func SkipReadings(j *journal.Journal, last, skipped uint64, log *slog.Logger) {
	var value []byte
	list := skippedReadings(j)
	for _, s := range append(list[max(0, len(list)-maxSkipped+1):], skippedNumbers{last / verify.Series, skipped}) {
		value = binary.AppendUvarint(binary.AppendUvarint(value, s.epoch), s.first)
	}
	// Durable before losses are announced, which refer to it; a disk that stalls does not hold up the start.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := j.AppendDurable(ctx, journal.Entry{Changes: []journal.Change{
		{Key: Readings, Value: binary.AppendUvarint(nil, last)}, {Key: skippedKey, Value: value},
	}})
	log.Warn("which numbers (seq) the last readings had is not known, because the journal has lost an unknown number of messages: they go on at a number that no reading had",
		"lost_from", skipped, "goes_on_at", last+1, "error", err)
}

type skippedNumbers struct{ epoch, first uint64 }

// skippedReadings returns what SkipReadings has noted, the oldest first.
func skippedReadings(j *journal.Journal) (list []skippedNumbers) {
	j.Range(skippedKey, func(_ string, b []byte) bool {
		for len(b) > 0 {
			epoch, n := binary.Uvarint(b)
			first, m := binary.Uvarint(b[max(0, n):])
			if n <= 0 || m <= 0 {
				break
			}
			list, b = append(list, skippedNumbers{epoch, first}), b[n+m:]
		}
		return false
	})
	return list
}

// SkippedBy returns which readings the start that found l has left out; nil if none.
func SkippedBy(j *journal.Journal, l *journal.Loss) *verify.Numbers {
	if l.Reason != journal.ReasonUnknown {
		return nil
	}
	for _, s := range skippedReadings(j) {
		if s.epoch == l.ID>>32 { // see journal.ReasonUnknown
			return &verify.Numbers{First: s.first, Last: s.epoch * verify.Series}
		}
	}
	return nil
}
