package diagnose

import (
	"context"
	"errors"
	"syscall"

	"holdfast/broker/client"
	"holdfast/broker/wire"
)

func tcpRemedy(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there, or a firewall says no: is the broker running, and is the port right (1883, with TLS 8883)?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "there is no way to that address: is the network up (ip route)?"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "nothing answers: the host is off, or a firewall drops it without a word; some networks only let 443 through, or want a `proxy`"
	}
	return "look at the address in `upstream`"
}

// connectRemedy is for a broker's answer to CONNECT, or its silence.
func connectRemedy(err error) string {
	var refusal *client.Refusal
	if !errors.As(err, &refusal) {
		if errors.Is(err, context.DeadlineExceeded) {
			return "connected, and no answer to CONNECT: is it an MQTT broker, and does this port want TLS (mqtts://)?"
		}
		return "closed without an answer to CONNECT: the broker's log says why; often this port wants TLS (mqtts://), or a client certificate"
	}
	switch refusal.Code {
	case wire.BadUserNameOrPassword:
		return "the broker does not know this user with this password: `username`, `password` or `token_file` of the bridge"
	case wire.NotAuthorized:
		return "the broker does not let this user in: look at `username` and `password` of the bridge, and whether this user may connect as this client (--client-id names another)"
	case wire.ClientIDNotValid:
		return "the broker does not take this client identifier: `client_id` of the bridge, or --client-id for the test alone"
	case wire.ServerUnavailable, wire.ServerBusy:
		return "the broker is there and does not take connections now: try again later, or look at its log"
	case wire.UnsupportedVersion:
		return "the broker speaks another version of MQTT"
	case wire.Banned:
		return "the broker has banned this client: its log says why"
	}
	return "the broker's log says more"
}
