package bridge

import (
	"errors"
	"fmt"

	"holdfast/broker/outbox"
	"holdfast/broker/wire"
)

// reasonError is the reason that the upstream has given in a CONNACK or DISCONNECT.
type reasonError struct {
	packet    wire.Type
	code      wire.Code
	text      string
	reference string // another server to use
}

func (e *reasonError) Error() string {
	s := fmt.Sprintf("upstream says in %v: %v", e.packet, e.code)
	if e.text != "" {
		s += fmt.Sprintf(" (%.200q)", e.text)
	}
	if e.reference != "" {
		s += fmt.Sprintf(", use %.200q", e.reference)
	}
	return s
}

func reasonOf(t wire.Type, code wire.Code, p *wire.Properties) error {
	e := &reasonError{packet: t, code: code}
	if p.ReasonString != nil {
		e.text = *p.ReasonString
	}
	if p.ServerReference != nil {
		e.reference = *p.ServerReference
	}
	return e
}

// errClosed means that the upstream has ended the connection without a reason.
var errClosed = errors.New("upstream closed the connection")

// unsupported reports whether an upstream of 3.1.1 may have answered a CONNECT of 5 that way. Some just
// close, or send what is no CONNACK.
func unsupported(err error) bool {
	var said *reasonError
	var violation *wire.Error
	if errors.As(err, &said) {
		return said.code == wire.UnsupportedVersion || said.code == wire.ProtocolError || said.code == wire.MalformedPacket
	}
	return errors.Is(err, errClosed) || errors.As(err, &violation)
}

// overloaded reports whether reconnecting soon would make things worse.
func overloaded(err error) bool {
	var said *reasonError
	if !errors.As(err, &said) {
		return false
	}
	switch said.code {
	case wire.ServerBusy, wire.QuotaExceeded, wire.ConnectionRateExceeded, wire.MessageRateTooHigh, wire.SessionTakenOver, wire.Banned:
		return true
	}
	return false
}

// closed reports whether the upstream has ended the connection, perhaps because of a message.
func closed(err error) bool {
	var said *reasonError
	return errors.As(err, &said) && !orderly(err) || errors.Is(err, errClosed)
}

// orderly reports whether the upstream has given a reason for the end that is not in what it was sent.
func orderly(err error) bool {
	var said *reasonError
	if !errors.As(err, &said) {
		return false
	}
	switch said.code {
	case wire.ServerShuttingDown, wire.SessionTakenOver, wire.KeepAliveTimeout, wire.UseAnotherServer, wire.ServerMoved, wire.AdministrativeAction:
		return true
	}
	return false
}

// causeOf returns what the end of a connection means for the messages in flight.
func causeOf(err error) outbox.Cause {
	switch {
	case orderly(err) || overloaded(err):
		return outbox.Stated
	case closed(err):
		return outbox.Closed
	}
	return outbox.Broken
}

// answerOf returns what the reason code of a PUBACK, from 0x80 on, means for its message.
func answerOf(code wire.Code) outbox.Answer {
	switch code {
	case wire.NotAuthorized, wire.TopicNameInvalid, wire.PayloadFormatInvalid, wire.PacketTooLarge:
		return outbox.Never
	case wire.QuotaExceeded: // the message is as good as any other
		return outbox.Later
	}
	return outbox.Doubt
}
