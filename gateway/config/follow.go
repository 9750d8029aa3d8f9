package config

import (
	"slices"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// What a followed reading is valid for, if the output has no lease: so many intervals of the sensor, and not less than
// leastLease. Of a topic the interval is not known, and taken for the default one.
const (
	leaseIntervals = 3
	leastLease     = 10 * time.Second
	topicLease     = leaseIntervals * 10 * time.Second
)

// quantityInfo is a reading that a sensor of the configuration publishes.
type quantityInfo struct {
	outputs.Follow
	any   bool          // every quantity: only the opened device knows which it has
	every time.Duration // between two readings at most; 0 if only changes are published
}

// published returns the readings of all sensors.
func (l *loader) published() (list []quantityInfo) {
	for _, c := range l.config.Sensors {
		i := slices.IndexFunc(l.opts.Drivers, func(d sensors.Driver) bool { return d.Name == c.Driver })
		if i < 0 {
			continue // reported
		}
		every := func(quantity string) time.Duration {
			how, own := c.Quantities[quantity]
			if !own {
				how = c.Processing
			}
			if how.Report.On {
				return how.Report.AtLeastEvery
			}
			return c.Every
		}
		measures := l.opts.Drivers[i].Measures(c.Options)
		for _, q := range measures {
			name := q.Name
			if as := c.Quantities[name].As; as != "" {
				name = as
			}
			list = append(list, quantityInfo{Follow: outputs.Follow{Sensor: c.Name, Quantity: name}, every: every(q.Name)})
		}
		if len(measures) == 0 {
			list = append(list, quantityInfo{Follow: outputs.Follow{Sensor: c.Name}, any: true, every: every("")})
		}
	}
	return list
}

// follow finds the reading that an output follows, and sets its lease if none is given.
func (l *loader) follow(e *element[output], c *outputs.Config) {
	at, given := e.given["follow"]
	if !given || e.value.follow == "" {
		return
	}
	text := e.value.follow
	_, leased := e.given["lease"]
	local := text
	if rest, own := strings.CutPrefix(text, "sensors/"+l.deviceID+"/"); own && strings.Count(rest, "/") == 1 {
		local = strings.Replace(rest, "/", ".", 1)
	}
	if strings.Contains(local, "/") {
		l.followTopic(at, c, text)
		if c.Follow.Topic != "" && !leased {
			c.Lease = topicLease
		}
		return
	}
	var known []string
	for _, q := range l.published() {
		name, isOf := strings.CutPrefix(local, q.Sensor+".")
		switch {
		case q.any && isOf && name != "":
			q.Quantity = name
		case q.any:
			known = append(known, q.Sensor+".QUANTITY")
			continue
		case !isOf || name != q.Quantity:
			known = append(known, q.String())
			continue
		}
		c.Follow = q.Follow
		switch {
		case leased:
		case q.every == 0:
			l.errorf(at, "%s is published only when it changes, so nothing shows whether it is stale: set report.at_least_every of the sensor, or lease of the output (0s: the last value is valid for ever)", plain(local))
		default:
			c.Lease = max(leaseIntervals*q.every, leastLease)
		}
		return
	}
	if len(known) == 0 {
		l.errorf(at, "there is no sensor to follow: add one, or give the topic of a reading from elsewhere, such as sensors/DEVICE/SENSOR/QUANTITY")
		return
	}
	l.errorf(at, "no sensor here publishes %s, %s", plain(local), nearest(local, known))
}

// followTopic checks a topic that is to be followed.
func (l *loader) followTopic(at field, c *outputs.Config, topic string) {
	own := "outputs/" + l.deviceID + "/" + c.Name
	switch err := broker.CheckTopic(topic); {
	case err != nil:
		l.errorf(at, "got %s, want the topic of one reading, without wildcards, such as sensors/DEVICE/SENSOR/QUANTITY", at.shown())
	case strings.HasPrefix(topic, "$"):
		l.errorf(at, "got %s, want the topic of a reading: what begins with $ is the broker's own", at.shown())
	case topic == own || strings.HasPrefix(topic, own+"/"):
		l.errorf(at, "got %s: an output cannot follow itself", at.shown())
	default:
		c.Follow = outputs.Follow{Topic: topic}
	}
}

// warnOfFollow warns of a topic of another device that no bridge brings in.
func (l *loader) warnOfFollow(e *element[output]) {
	topic := e.value.follow
	if !strings.HasPrefix(topic, "sensors/") || strings.HasPrefix(topic, "sensors/"+l.deviceID+"/") {
		return
	}
	for _, b := range l.config.Bridges {
		if slices.ContainsFunc(b.In, func(r Rule) bool { return broker.Covers(localName(r), topic) }) {
			return
		}
	}
	l.warnf(e.given["follow"], "no bridge brings %s in: unless a client here publishes it, add an in rule with a filter for it", plain(topic))
}
