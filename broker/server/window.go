package server

import "sync/atomic"

// window holds the client's packets that are to be answered. Guarded by conn.mu, but for pending and changed.
type window struct {
	pending atomic.Int64        // entries appended to the journal and not committed
	changed bool                // changes were appended since the journal's room was last looked at; for the reading goroutine
	unacked int                 // QoS 1 publishes that were not answered
	open    map[uint16]struct{} // QoS 2 publishes of a 5.0 client that were not completed
}

// begin adds a publish and returns how many count in the receive maximum of a 5.0 client.
func (w *window) begin(id uint16, qos byte, v5 bool) int {
	switch {
	case qos == 1:
		w.unacked++
	case v5:
		if w.open == nil {
			w.open = map[uint16]struct{}{}
		}
		w.open[id] = struct{}{}
	}
	return w.unacked + len(w.open)
}

// answered notes the answer to a publish. One of QoS 2 that is not refused stays open until PUBREL.
func (w *window) answered(id uint16, qos byte, refused bool) {
	if qos == 1 {
		w.unacked--
	} else if refused {
		w.released(id)
	}
}

// released ends a QoS 2 publish.
func (w *window) released(id uint16) { delete(w.open, id) }
