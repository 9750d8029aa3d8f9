package server

import (
	"sync/atomic"

	"holdfast/broker/wire"
)

// firstFailure and lastCode bound the reason codes that are failures (MQTT 5.0 section 2.4).
const (
	firstFailure = wire.Unspecified
	lastCode     = wire.WildcardsDisabled
)

// refusals counts the failures that clients were answered, by the packet that tells and by its reason code. A
// client of 3.1.1 gets fewer codes, or none where the connection just ends, and counts as one of 5.0 does. Its zero
// value has none; it is safe for concurrent use.
type refusals [wire.AUTH + 1][lastCode - firstFailure + 1]atomic.Uint64

// count adds an answer of type t. Codes that are no failure do not count.
func (r *refusals) count(t wire.Type, code wire.Code) {
	if code >= firstFailure && code <= lastCode && t <= wire.AUTH {
		r[t][code-firstFailure].Add(1)
	}
}

// snapshot returns the totals by the packets' and the codes' names.
func (r *refusals) snapshot() map[string]map[string]uint64 {
	all := map[string]map[string]uint64{}
	for t := range r {
		for i := range r[t] {
			n := r[t][i].Load()
			if n == 0 {
				continue
			}
			name := wire.Type(t).String()
			if all[name] == nil {
				all[name] = map[string]uint64{}
			}
			all[name][(firstFailure + wire.Code(i)).String()] = n
		}
	}
	return all
}
