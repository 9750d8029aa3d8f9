package chips

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// mqttTopic makes readings of messages of the local broker.
func mqttTopic() sensors.Driver {
	return sensors.Driver{
		Spec: sensors.Spec{
			Name: "mqtt", Doc: "the newest message on a topic of the local broker: a number, or values in JSON",
			Chip: "ESP32s, Zigbee and Shelly devices, programs", Datasheet: "none: the sender's own",
			Options: append([]sensors.Option{
				{Name: "topic", Kind: sensors.OptionString, Required: true, Doc: "without wildcards"},
				{Name: "max_age", Kind: sensors.OptionDuration, Default: 5 * time.Minute, Doc: "how long the sender may be silent before it is absent"},
			}, textOptions()...),
			Timeout: time.Second,
		},
		QuantitiesOf: textQuantities,
		Check: func(c sensors.Config) error {
			if strings.ContainsAny(stringOption(c, "topic"), "+#") {
				return errors.New("topic: wildcards are not possible here: want one topic")
			}
			return checkText(c)
		},
		Open: openMQTT,
	}
}

// mqttSensor reports a message once: a sender that is silent gives no readings, and old ones are never
// repeated.
type mqttSensor struct {
	config sensors.Config
	cancel func()

	mu    sync.Mutex
	text  []byte // nil if it was reported
	large bool   // the message was too long to be kept
	at    time.Time
}

func openMQTT(_ context.Context, c sensors.Config, _ *bus.Set) (sensors.Sensor, error) {
	s := &mqttSensor{config: c, at: time.Now()}
	var err error
	s.cancel, err = hostOf(c).Subscribe(stringOption(c, "topic"), s.take)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *mqttSensor) take(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Now()
	s.large = len(payload) > maxText
	s.text = append([]byte{}, payload[:min(len(payload), maxText)]...)
}

func (s *mqttSensor) Sense(ctx context.Context) ([]sensors.Measurement, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	text, large, silent := s.text, s.large, time.Since(s.at)
	s.text = nil
	s.mu.Unlock()
	topic := stringOption(s.config, "topic")
	switch most := s.config.Options["max_age"].(time.Duration); {
	case large && text != nil:
		return nil, fmt.Errorf("%s: more than %d KiB", topic, maxText>>10)
	case text != nil:
		m, err := readText(s.config.Options, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", topic, err)
		}
		return m, nil
	case silent > most:
		return nil, fmt.Errorf("%w: no message on %s for %v", bus.ErrAbsent, topic, silent.Round(time.Second))
	}
	return nil, &sensors.NotYet{After: min(s.config.Every, time.Second), Why: "no new message"}
}

func (s *mqttSensor) Close() error {
	s.cancel()
	return nil
}
