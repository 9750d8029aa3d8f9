package bridge

import (
	"testing"
	"time"

	"holdfast/broker/wire"
)

func TestReadDelay(t *testing.T) {
	user := func(pairs ...string) []byte {
		var f wire.Forwarded
		for i := 0; i < len(pairs); i += 2 {
			f.User = append(f.User, wire.UserProperty{Name: pairs[i], Value: pairs[i+1]})
		}
		return f.Append(nil)
	}
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		what       string
		properties []byte
		want       Delay
	}{
		{"none", nil, Delay{}},
		{"others", user("holdfast", "pi/up/1/2", "colour", "red"), Delay{}},
		{"queued", user(queuedProperty, "12s"), Delay{AtMost: 12 * time.Second}},
		{"queued at two places", user(queuedProperty, "12s", queuedProperty, "1m0s"), Delay{AtMost: 72 * time.Second}},
		{"queued, unknown", user(queuedProperty, queuedUnknown), Delay{Unknown: true}},
		{"queued, known and unknown", user(queuedProperty, "12s", queuedProperty, queuedUnknown), Delay{Unknown: true, AtMost: 12 * time.Second}},
		{"queued, less than nothing", user(queuedProperty, "-1h"), Delay{Unknown: true}},
		{"replayed", user(replayedProperty, "true"), Delay{Unknown: true}},
		{"replayed, taken", user(replayedProperty, "true", takenProperty, "2026-11-29T12:00:00Z"), Delay{Taken: &at}},
		{"replayed twice", user(replayedProperty, "true", takenProperty, "2026-11-29T12:30:00Z", replayedProperty, "true", takenProperty, "2026-11-29T12:00:00Z"), Delay{Taken: &at}},
		{"replayed, taken at no time", user(replayedProperty, "true", takenProperty, "noon"), Delay{Unknown: true}},
		{"damaged", append(user(queuedProperty, "12s"), 0xff), Delay{Unknown: true}},
	} {
		got := ReadDelay(tt.properties)
		same := got.Unknown == tt.want.Unknown && got.AtMost == tt.want.AtMost && (got.Taken == nil) == (tt.want.Taken == nil)
		if !same || got.Taken != nil && !got.Taken.Equal(*tt.want.Taken) {
			t.Errorf("%s: got %+v, want %+v", tt.what, got, tt.want)
		}
	}
}
