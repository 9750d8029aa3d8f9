package chips

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// The limits of one topic: a device that sends all that it has at once is heard out, one that sends without end
// becomes 100 messages a second.
const (
	mqttBurst = 1000
	mqttRate  = 100
	mqttBytes = 256 << 10 // that are queued, and not read yet
)

// mqttTopic makes readings of messages of the local broker.
func mqttTopic() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "mqtt", Doc: "every message on a topic of the local broker, when it comes: a number, or values in JSON",
			Chip: "ESP32s, Zigbee and Shelly devices, programs", Datasheet: "none: the sender's own",
			Options: append([]sensors.Option{
				{Name: "topic", Kind: sensors.OptionString, Required: true, Doc: "without wildcards"},
				{Name: "max_age", Kind: sensors.OptionDuration, Default: 5 * time.Minute, Doc: "how long the sender may send no value before it is absent"},
				{Name: "time", Kind: sensors.OptionString, Default: "", Doc: "place in the JSON of when the sender measured, such as Time: RFC 3339 (without a zone in the Pi's own), or seconds or milliseconds since 1970; if not given or not there, a reading is of when its message came"},
			}, textOptions()...),
			Timeout: time.Second,
		},
		QuantitiesOf: textQuantities,
		Check: func(c sensors.Config) error {
			switch topic := stringOption(c, "topic"); {
			case strings.ContainsAny(topic, "+#"):
				return errors.New("topic: wildcards are not possible here: want one topic")
			case strings.HasPrefix(topic, "$share/"):
				return errors.New("topic: shared subscriptions are not possible here: want one topic")
			}
			if c.Options["max_age"].(time.Duration) <= 0 {
				return errors.New("max_age: want more than 0s: how long the sender may send no value")
			}
			if place := stringOption(c, "time"); place != "" {
				if _, err := steps(place); err != nil {
					return fmt.Errorf("time: %w", err)
				}
				if len(mapOption(c.Options, "values")) == 0 {
					return errors.New("time: is a place in JSON: name those of the values with values")
				}
			}
			return checkText(c)
		},
		Topic: func(c sensors.Config) string { return stringOption(c, "topic") },
		Open:  openMQTT,
	}
}

// mqttSensor makes a reading of each message, at the time at which it came: old ones are never repeated. It listens
// until it is closed, whatever is sent.
type mqttSensor struct {
	config   sensors.Config
	cancel   func()
	messages arrivals[message]

	good    time.Time // when the last value came, or the sensor was opened
	bad     error     // of the last message, if it could not be read
	useless int       // messages since the last value that had none of the values
}

type message struct {
	at    time.Time
	text  []byte
	large bool // it was too long to be kept
}

func openMQTT(_ context.Context, c sensors.Config, _ *bus.Set) (sensors.Sensor, error) {
	s := &mqttSensor{config: c, good: time.Now(), messages: arrivals[message]{wake: c.Wake, burst: mqttBurst, rate: mqttRate, maxBytes: mqttBytes}}
	var err error
	s.cancel, err = hostOf(c).Subscribe(stringOption(c, "topic"), func(payload []byte) {
		m := message{at: time.Now(), large: len(payload) > maxText}
		if !m.large {
			m.text = slices.Clone(payload)
		}
		s.messages.add(m.at, m, len(m.text))
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Take returns the values of the messages that have come. It waits for nothing, so no deadline makes a message lost.
func (s *mqttSensor) Take(context.Context) ([]sensors.Measurement, error) { return s.read(false) }

func (s *mqttSensor) read(now bool) (all []sensors.Measurement, _ error) {
	var failed sensors.Unreadable
	for _, m := range s.messages.take(now) {
		var values []sensors.Measurement
		at := m.at
		if s.bad = fmt.Errorf("more than %d KiB", maxText>>10); !m.large {
			if values, s.bad = readParts(s.config.Options, m.text); len(values) > 0 {
				var bad error
				if at, bad = s.measuredAt(m); s.bad == nil {
					s.bad = bad
				}
			}
		}
		for _, v := range values {
			v.Time = at
			all = append(all, v)
			s.good, s.useless = m.at, 0
		}
		switch {
		case s.bad != nil:
			s.bad = fmt.Errorf("%s: %w", stringOption(s.config, "topic"), s.bad)
			if failed.Err != nil {
				failed.More++
			}
			failed.Err = s.bad
		case len(values) == 0:
			s.useless++
		}
	}
	if failed.Err != nil {
		return all, &failed
	}
	return all, nil
}

// measuredAt returns when the values of a message were measured: by its sender, if the message says so and that can be, and
// else when it came.
func (s *mqttSensor) measuredAt(m message) (time.Time, error) {
	place := stringOption(s.config, "time")
	if place == "" {
		return m.at, nil
	}
	doc, err := parseJSON(bytes.TrimRight(m.text, "\x00"))
	if err != nil {
		return m.at, err
	}
	found, err := at(doc, place)
	if err != nil || found == nil {
		return m.at, nil // a message of another kind
	}
	said, err := toTime(found)
	switch {
	case err != nil:
		return m.at, fmt.Errorf("%s: %w", place, err)
	case said.After(m.at.Add(ahead)), said.Year() < 2000:
		return m.at, fmt.Errorf("%s: the sender's clock is wrong: it says %s", place, said.UTC().Format(time.RFC3339))
	}
	return said, nil
}

// Sense returns what has come, or else how the sender is doing.
func (s *mqttSensor) Sense(context.Context) ([]sensors.Measurement, error) {
	m, err := s.read(true)
	if len(m) > 0 || err != nil {
		return m, err
	}
	topic, most := stringOption(s.config, "topic"), s.config.Options["max_age"].(time.Duration)
	switch left := most - time.Since(s.good); {
	case left < 0 && s.useless > 0:
		names := slices.Sorted(maps.Keys(mapOption(s.config.Options, "values")))
		return nil, &sensors.Unreadable{Err: fmt.Errorf("%w: messages come on %s, but none within %v has %s: check values", bus.ErrAbsent, topic, most, strings.Join(names, " or "))}
	case left < 0:
		return nil, &sensors.Unreadable{Err: fmt.Errorf("%w: no message on %s within %v", bus.ErrAbsent, topic, most)}
	case s.bad != nil:
		return nil, &sensors.Unreadable{Err: s.bad}
	default:
		return nil, &sensors.NotYet{After: left + time.Millisecond, Why: "no new message"}
	}
}

// LeftOut is how many messages were dropped at the limit.
func (s *mqttSensor) LeftOut() uint64 { return s.messages.leftOut() }

func (s *mqttSensor) Close() error {
	s.cancel()
	s.messages.close()
	return nil
}
