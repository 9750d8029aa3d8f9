package diagnose

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"holdfast/broker/client"
	"holdfast/broker/wire"
)

// mqtt goes from CONNECT to the round trip.
func (r *run) mqtt(ctx context.Context, nc net.Conn) {
	r.id, r.back = rand.Text(), make(chan string, 100)
	if !r.connect(ctx, nc) {
		return
	}
	defer func() {
		if r.client != nil {
			r.client.Close()
		}
	}()
	if !r.subscribeIn(ctx) || !r.subscribe(ctx) {
		return
	}
	begun := time.Now()
	accepted := r.publish(ctx)
	expected := slices.DeleteFunc(slices.Clone(accepted[r.missed:]), func(t string) bool { return !slices.Contains(r.heard, t) })
	switch {
	case r.Deaf || len(r.Topics) == 0:
	case len(r.heard) == 0:
		r.tell("round trip", Skipped, "nothing can be read here", "")
	case len(expected) == 0:
		r.tell("round trip", Skipped, "nothing was published that can be read", "")
	case r.client != nil:
		r.roundTrip(ctx, expected, begun)
	}
}

// subscribeIn asks for what is to come from the upstream. It reports whether there is a connection afterwards.
func (r *run) subscribeIn(ctx context.Context) bool {
	var good []string
	for _, sub := range r.In {
		codes, err := r.client.Subscribe(ctx, []client.Subscription{sub})
		switch {
		case err != nil:
			r.tell("subscribe", Failed, "in: "+err.Error(), "the broker ends the connection instead of refusing, many do so where reading is not allowed: "+readRemedy(sub.Filter))
			if !r.reopen(ctx) {
				return false
			}
		case codes[0] >= wire.Unspecified:
			r.tell("subscribe", Failed, "in: "+refused(sub.Filter, codes[0]), readRemedy(sub.Filter))
		case byte(codes[0]) < sub.QoS:
			r.tell("subscribe", Warning, fmt.Sprintf("in: %s: granted QoS %d, want %d", sub.Filter, codes[0], sub.QoS),
				"what is published there while the bridge is away does not come in: have the broker grant it, or give the rule qos: 0")
		default:
			good = append(good, sub.Filter)
		}
	}
	if len(good) > 0 {
		r.tell("subscribe", OK, "in: "+strings.Join(good, ", "), "")
	}
	return true
}

func refused(filter string, code wire.Code) string {
	return fmt.Sprintf("%s: refused: %v (0x%02x)", filter, code, byte(code))
}

func readRemedy(filter string) string {
	return "give this user the right to read " + filter + " in the broker's access rules, or correct the rule in `in`"
}

// subscribe asks for what is published for the test. It reports whether there is a connection afterwards.
func (r *run) subscribe(ctx context.Context) bool {
	if r.Deaf {
		return true
	}
	const remedy = "sending needs no such right; whether what is sent is kept cannot be seen from here"
	for _, topic := range r.Topics {
		codes, err := r.client.Subscribe(ctx, []client.Subscription{{Filter: topic, QoS: 1}})
		switch {
		case err != nil:
			r.tell("subscribe", Warning, err.Error(), "the broker ends the connection instead of refusing: its log says why; "+remedy)
			if !r.reopen(ctx) {
				r.failed = true
				return false
			}
		case codes[0] >= wire.Unspecified:
			r.tell("subscribe", Warning, refused(topic, codes[0]), remedy)
		default:
			r.heard = append(r.heard, topic)
		}
	}
	if len(r.heard) > 0 {
		r.tell("subscribe", OK, strings.Join(r.heard, ", "), "")
	}
	return true
}

// publish returns the topics that were taken.
func (r *run) publish(ctx context.Context) (accepted []string) {
	for _, topic := range r.Topics {
		m := client.Message{Topic: topic, QoS: 1, Payload: []byte(`{"holdfast":"test","id":"` + r.id + `"}`)}
		if !r.V311 {
			m.Expires, m.Expiry = true, 60
		}
		err := r.client.Publish(ctx, m)
		var refusal *client.Refusal
		switch {
		case err == nil:
			accepted = append(accepted, topic)
		case errors.As(err, &refusal) && refusal.Code == wire.NotAuthorized:
			r.fail("publish", err, "give this user the right to write "+topic+" in the broker's access rules")
		case errors.As(err, &refusal):
			r.fail("publish", err, "the broker's limits, or its documents on this reason code, say more")
		default:
			r.fail("publish", fmt.Errorf("%s: %w", topic, err), "the broker ends the connection, or says nothing: many do so where writing is not allowed; its log says why")
			if r.missed = len(accepted); !r.reopen(ctx) {
				return accepted
			}
		}
	}
	if len(accepted) > 0 {
		r.tell("publish", OK, strings.Join(accepted, ", ")+": acknowledged", "")
	}
	return accepted
}

func (r *run) roundTrip(ctx context.Context, topics []string, begun time.Time) {
	missing := slices.Clone(topics)
	timeout := time.NewTimer(r.Timeout)
	defer timeout.Stop()
	for len(missing) > 0 {
		select {
		case topic := <-r.back:
			missing = slices.DeleteFunc(missing, func(t string) bool { return t == topic })
		case <-r.client.Lost():
			r.fail("round trip", r.client.Err(), "the broker ends the connection after the publish: many do so where writing is not allowed; its log says why")
			return
		case <-timeout.C:
			r.fail("round trip", fmt.Errorf("%s: acknowledged, and not handed on within %v", strings.Join(missing, ", "), r.Timeout),
				"MQTT 3.1.1 cannot refuse a publish, so brokers acknowledge what they then drop: give this user the right to write there in the broker's access rules")
			return
		case <-ctx.Done():
			r.fail("round trip", ctx.Err(), "")
			return
		}
	}
	r.tell("round trip", OK, fmt.Sprintf("came back within %v", time.Since(begun).Round(time.Millisecond)), "")
}
