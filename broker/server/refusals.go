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

// refusals counts the failures sent to clients, by packet type and reason code. A 3.1.1 client gets fewer codes, or
// none where the connection just ends; it counts like one of 5.0. The zero value is empty; it is safe for concurrent
// use.
type refusals [wire.AUTH + 1][lastCode - firstFailure + 1]atomic.Uint64

// count counts an answer of type t if its code is a failure.
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
