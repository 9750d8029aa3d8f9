package commands

import (
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/sensors/outputs"
)

// TestFreshness: within a boot its time alone counts, also over a restart of the gateway, and whatever the clock was set to.
func TestFreshness(t *testing.T) {
	r := &router{ages: ages{clockSynced: func() bool { return true }}}
	age := time.Minute
	r.waited = func(journal.Time) time.Duration { return age }
	for _, tt := range []struct {
		d        journal.Delivery
		ageKnown bool
		old      bool
	}{
		{journal.Delivery{Time: journal.Time{Earlier: true, Synced: true}}, true, true},
		{journal.Delivery{Time: journal.Time{Earlier: true}}, false, false},
		{journal.Delivery{Time: journal.Time{}}, true, true},
		{journal.Delivery{Time: journal.Time{Synced: true}}, true, true},
	} {
		j := r.freshness(&tt.d)
		if j.ageKnown != tt.ageKnown || tt.ageKnown && (j.age > 30*time.Second) != tt.old {
			t.Errorf("%+v: got %+v", tt.d, j)
		}
	}
}

// TestForgottenIDs: once each command that was sent before the journal lost its memory is too old, an id alone is enough again.
func TestForgottenIDs(t *testing.T) {
	c := outputs.Config{CommandExpiry: 30 * time.Second}
	for _, since := range []time.Duration{c.CommandExpiry - time.Second, c.CommandExpiry} {
		_, err := parseCommand(&broker.Message{Payload: []byte(`{"value":"on","id":"a"}`)}, &c,
			freshness{now: time.Now(), clockSynced: true, ageKnown: true, interrupted: true, interruptedSince: since})
		if (err != nil) != (since < c.CommandExpiry) {
			t.Errorf("%v after the journal lost its memory: %v", since, err)
		}
	}
}
