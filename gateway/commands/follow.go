package commands

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/broker/server"
	"holdfast/gateway/tap"
	"holdfast/sensors/outputs"
)

// Outputs follow readings. One of this device comes by the tap, in the moment in which it was taken; nothing of it is
// kept. One from elsewhere comes by the reader of commands: it is on disk before its sender has the acknowledgement, and is
// carried out once.

// filters returns what the reader of commands subscribes to, and notes who follows what.
func (r *router) filters() []server.FilterQoS {
	list := []server.FilterQoS{{Filter: "outputs/" + r.device + "/+/set", QoS: 2}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = map[string][]string{}
	for name, c := range r.configs {
		source := c.Follow.String()
		if source == "" {
			continue
		}
		if c.Follow.Topic != "" && r.sources[source] == nil {
			list = append(list, server.FilterQoS{Filter: c.Follow.Topic, QoS: 1})
		}
		r.sources[source] = append(r.sources[source], name)
	}
	return list
}

// subscribe subscribes to the readings of this device if an output follows one.
func (r *router) subscribe() {
	r.mu.Lock()
	local := false
	for _, c := range r.configs {
		local = local || c.Follow.Sensor != ""
	}
	r.mu.Unlock()
	r.following.Lock()
	defer r.following.Unlock()
	if local && r.hub != nil && !r.ended {
		r.unfollow = r.hub.Subscribe(tap.Options{Name: "outputs that follow readings", Take: r.taken}).Close
	}
}

// unsubscribe returns when no more readings are taken: for good, if ended is set.
func (r *router) unsubscribe(ended bool) {
	r.following.Lock()
	defer r.following.Unlock()
	if r.unfollow != nil {
		r.unfollow()
		r.unfollow = nil
	}
	r.ended = r.ended || ended
}

// taken gives a reading of this device to the outputs that follow it.
func (r *router) taken(e tap.Event) {
	is, ok := e.(tap.Reading)
	if !ok {
		return
	}
	source := outputs.Follow{Sensor: is.Sensor, Quantity: is.Quantity}
	for _, name := range r.followers(source.String()) {
		r.enqueue(name, request{reading: &is, follows: true, settled: func() {}})
	}
}

// followers returns the outputs that follow a source. The list is not changed.
func (r *router) followers(source string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sources[source]
}

// route gives a message to each output that it is for.
func (r *router) route(x request) {
	name, isCommand := r.output(x.m.Topic)
	followers := r.followers(x.m.Topic)
	var left atomic.Int32
	if left.Store(int32(len(followers))); isCommand {
		left.Add(1)
	}
	settled := x.settled
	if left.Load() == 0 {
		settled() // no output follows it any more
		return
	}
	x.settled = func() {
		if left.Add(-1) == 0 {
			settled()
		}
	}
	if isCommand {
		r.offer(name, x)
	}
	x.follows = true
	for _, name := range followers {
		r.offer(name, x)
	}
}

// offer is enqueue for messages that are not too long.
func (r *router) offer(name string, x request) {
	if err := checkSize(x.m); err != nil {
		r.refuse(name, &parsed{}, x, err)
		return
	}
	r.enqueue(name, x)
}

// output returns the output that a topic of a command names.
func (r *router) output(topic string) (name string, ok bool) {
	name, ok = strings.CutPrefix(topic, "outputs/"+r.device+"/")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "/set")
	return name, ok && !strings.Contains(name, "/")
}

// readingCommand makes a command of a reading of this device.
func readingCommand(is *tap.Reading, c *outputs.Config) (cmd parsed, err error) {
	cmd.ID = strconv.FormatUint(is.Seq, 10)
	cmd.Why = "follows " + c.Follow.String()
	cmd.text = strconv.FormatFloat(is.Value, 'g', -1, 64)
	if age := time.Since(is.Time); age > c.CommandExpiry {
		err = fmt.Errorf("too old: measured %v ago, want at most %v (command_expiry)", age.Round(time.Second), c.CommandExpiry)
	}
	return cmd, err
}

// place is how far an output is with the readings that it follows.
type place struct {
	seq  uint64
	sent time.Time
}

var errOvertaken = errors.New("a later reading has come before it")

// pass refuses a reading from before one that has passed: what was queued for long may come behind what was not. One that
// is older by its number alone, or by its time alone, is new: its gateway has begun anew, or its clock was set.
func (p *place) pass(cmd *parsed) error {
	seq, err := strconv.ParseUint(cmd.ID, 10, 64)
	if err != nil || cmd.sent == nil {
		return nil
	}
	if seq < p.seq && cmd.sent.Before(p.sent) {
		return errOvertaken
	}
	p.seq, p.sent = seq, *cmd.sent
	return nil
}
