// Package sinks is the table of what the messages of a bridge can be delivered to beside MQTT brokers.
//
// A row is an outbox.SinkKind. The configuration takes its scheme as an upstream of a bridge, and the gateway delivers there;
// neither knows the sink.
package sinks

import (
	"slices"

	"holdfast/broker/outbox"
)

// All returns the sinks that there are. A new one is a line.
func All() []outbox.SinkKind {
	return []outbox.SinkKind{}
}

// Of returns the sink of a scheme, nil if none has it.
func Of(list []outbox.SinkKind, scheme string) *outbox.SinkKind {
	if i := slices.IndexFunc(list, func(k outbox.SinkKind) bool { return k.Scheme == scheme }); i >= 0 {
		return &list[i]
	}
	return nil
}
