// Package broker holds the words that the packages below it share: Message, topic names, topic
// filters and rules. It promises that a Message is treated as immutable once it has been handed on, so that
// many readers can share one. It does no I/O and keeps no state.
package broker

// Message is one application message (MQTT 5.0 section 1.2), independent of any packet that carried
// it. Topic, Payload and Properties are shared between readers and must not be changed after the
// message was handed to a server, a journal or a bridge.
type Message struct {
	Topic   string // topic name, without wildcards, UTF-8
	Payload []byte // opaque; may be empty

	// Properties holds the MQTT 5 properties that travel with an application message from publisher
	// to subscriber (Payload Format Indicator, Content Type, Response Topic, Correlation Data, User
	// Property), in their wire encoding and in their original order, without the length in front.
	// Message Expiry Interval, Topic Alias and Subscription Identifier are not among them. Empty for
	// a message published over MQTT 3.1.1.
	Properties []byte

	QoS     byte // 0, 1 or 2, as published
	Retain  bool // the RETAIN flag, as published
	Expires bool // whether Expiry is set
	// Expiry is the lifetime in seconds from the moment the server received the message (MQTT 5.0
	// section 3.3.2.3.3). Meaningful only if Expires.
	Expiry uint32
}
