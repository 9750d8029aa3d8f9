package config

import (
	"slices"
	"strings"

	"holdfast/sensors"
)

// finishTopics refuses sensors that read what they publish themselves, alone or in a circle of several: each message
// would be followed by another one without end.
func (l *loader) finishTopics() {
	reads := map[string]string{} // the sensor that each one reads a topic of
	for _, c := range l.config.Sensors {
		if source, ok := l.publisher(l.topicOf(c)); ok {
			reads[c.Name] = source
		}
	}
	for _, e := range l.sensors {
		name := e.value.Name
		var seen, links []string
		for at := name; at != "" && !slices.Contains(seen, at); at = reads[at] {
			seen = append(seen, at)
			links = append(links, at+" reads what "+reads[at]+" publishes")
			if reads[at] == name {
				l.errorf(e.rest["topic"], "%s: each message would be followed by another one without end: want a topic of a device or another program", strings.Join(links, ", "))
			}
		}
	}
}

// topicOf returns the topic that a sensor reads; empty for none.
func (l *loader) topicOf(c sensors.Config) string {
	i := slices.IndexFunc(l.opts.Drivers, func(d sensors.Driver) bool { return d.Name == c.Driver })
	if i < 0 || l.opts.Drivers[i].Topic == nil {
		return ""
	}
	return l.opts.Drivers[i].Topic(c)
}

// publisher returns the sensor of this device that publishes to a topic.
func (l *loader) publisher(topic string) (sensor string, ok bool) {
	levels := strings.Split(topic, "/")
	switch {
	case len(levels) < 3 || levels[1] != l.deviceID:
		return "", false
	case levels[0] == "sensors" && len(levels) == 4, levels[0] == "status" && len(levels) == 3:
		return levels[2], true
	}
	return "", false
}
