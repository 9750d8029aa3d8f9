package sensors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/sensors/bus"
)

var errNoBroker = fmt.Errorf("%w: there is no broker here: only a running gateway can read topics", ErrPermanent)

// mqttTopic makes readings of messages of the local broker.
func mqttTopic() Driver {
	return Driver{
		Name: "mqtt", Doc: "the newest message on a topic of the local broker: a number, or values in JSON",
		Chip: "ESP32s, Zigbee and Shelly devices, programs", Datasheet: "none: the sender's own",
		QuantitiesOf: textQuantities,
		Options: append([]Option{
			{Name: "topic", Kind: OptionString, Required: true, Doc: "without wildcards"},
			{Name: "max_age", Kind: OptionDuration, Default: 5 * time.Minute, Doc: "how long the sender may be silent before it is absent"},
		}, textOptions()...),
		Check: func(c Config) error {
			if strings.ContainsAny(stringOption(c, "topic"), "+#") {
				return errors.New("topic: wildcards are not possible here: want one topic")
			}
			return checkText(c)
		},
		Timeout: time.Second,
		Open:    openMQTT,
	}
}

// mqttSensor reports a message once: a sender that is silent gives no readings, and old ones are never
// repeated.
type mqttSensor struct {
	config Config
	cancel func()

	mu    sync.Mutex
	text  []byte // nil if it was reported
	large bool   // the message was too long to be kept
	at    time.Time
}

func openMQTT(_ context.Context, c Config, _ *bus.Set) (Sensor, error) {
	s := &mqttSensor{config: c, at: time.Now()}
	var err error
	s.cancel, err = c.host().Subscribe(stringOption(c, "topic"), s.take)
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

func (s *mqttSensor) Sense(ctx context.Context) ([]Measurement, error) {
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
	return nil, &NotYet{After: min(s.config.Every, time.Second), Why: "no new message"}
}

func (s *mqttSensor) Close() error {
	s.cancel()
	return nil
}
