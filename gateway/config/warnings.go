package config

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"holdfast/broker"
	"holdfast/sensors"
)

// Warnings returns what is possible in the configuration and hardly meant: passwords that cross the network in
// plain text, rules that can send nothing. They are in the order of the files and their lines.
func (c *Config) Warnings() Errors { return slices.Clone(c.warnings) }

// warnf notes one.
func (l *loader) warnf(f field, format string, args ...any) {
	w := Error{File: f.file, Line: f.line, Key: f.path, Text: fmt.Sprintf(format, args...)}
	l.config.warnings = append(l.config.warnings, w)
}

// finishWarnings looks at a configuration without mistakes.
func (l *loader) finishWarnings(files []string) {
	for _, e := range l.listeners {
		l.warnOfListener(e)
	}
	for _, e := range l.bridges {
		l.warnOfPassword(e)
		l.warnOfRules(e)
	}
	for _, e := range l.sensors {
		l.warnOfReport(e)
	}
	for _, e := range l.outputs {
		l.warnOfFollow(e)
	}
	l.config.warnings = l.config.warnings.sorted(files)
}

// warnOfListener: with users there are passwords, also where none is needed.
func (l *loader) warnOfListener(e *element[Listener]) {
	b, v := &l.config.Broker, &e.value
	if open := v.Scheme == "mqtt" || v.Scheme == "ws"; !open || local(v.Endpoint) || len(b.Users) == 0 && b.PasswordFile == "" {
		return
	}
	l.warnf(e.given["url"], "passwords of users cross the network in plain text, and can be read on the way: use %ss with cert and key, or listen on 127.0.0.1", v.Scheme)
}

// warnOfReport: nothing can be published more often than it is read.
func (l *loader) warnOfReport(e *element[sensorEntry]) {
	i := slices.IndexFunc(l.config.Sensors, func(c sensors.Config) bool { return c.Name == e.value.Name })
	if i < 0 {
		return
	}
	c := &l.config.Sensors[i]
	least := c.Report.AtLeastEvery
	for _, how := range c.Quantities {
		if d := how.Report.AtLeastEvery; least == 0 || d > 0 && d < least {
			least = d
		}
	}
	if least > 0 && least < c.Every {
		l.warnf(e.at, "report.at_least_every is %v and the sensor is read every %v: set every to %v or less", least, c.Every, least)
	}
}

// isPlain reports whether what is sent to an upstream can be read on the way.
func (l *loader) isPlain(u Endpoint) bool {
	if s := l.sink(u); s != nil {
		return !s.TLS
	}
	return strings.HasPrefix(u.URL, "mqtt:") || strings.HasPrefix(u.URL, "ws:")
}

// credentials is the key of what a bridge logs in with; empty for nothing.
func (b *Bridge) credentials() string {
	switch {
	case b.Password != "":
		return "password"
	case b.TokenFile != "":
		return "token_file"
	case b.SASKey != "":
		return "sas_key"
	case b.Username != "": // which is the secret itself with some services
		return "username"
	}
	return ""
}

func (l *loader) warnOfPassword(e *element[Bridge]) {
	b := &e.value
	what := b.credentials()
	if what == "" {
		return
	}
	for i, u := range b.Upstream {
		if l.isPlain(u) && !local(u) {
			scheme, _, _ := strings.Cut(u.URL, ":")
			l.warnf(entryOf(e.given["upstream"], i), "%s crosses the network in plain text, and can be read on the way: use %ss", what, scheme)
		}
	}
}

// entryOf is the place of a list's entry.
func entryOf(list field, i int) field {
	if list.node == nil || list.node.Kind != yaml.SequenceNode || i >= len(list.node.Content) {
		return list
	}
	return list.item(i)
}

// inside is the place of a key in the mapping f.
func inside(f field, name string) field {
	for i := 0; f.node != nil && f.node.Kind == yaml.MappingNode && i+1 < len(f.node.Content); i += 2 {
		if f.node.Content[i].Value == name {
			return f.child(f.node.Content[i], f.node.Content[i+1])
		}
	}
	return f.key(name)
}

func (l *loader) warnOfRules(e *element[Bridge]) {
	b := &e.value
	for i, r := range b.Out {
		at := entryOf(e.given["out"], i)
		if meant := l.meant(r.Filter); meant != "" {
			l.warnf(inside(at, "filter"), "%q matches nothing that the gateway publishes: did you mean %q?", r.Filter, meant)
		}
		if j := slices.IndexFunc(b.Out[:i], func(earlier Rule) bool { return broker.Covers(earlier.Filter, r.Filter) }); j >= 0 {
			l.warnf(inside(at, "filter"), "sends nothing: the first rule that matches decides, and out[%d] with %q matches all that this one does: put this one before it, or remove it", j, b.Out[j].Filter)
		}
		l.warnOfPrefix(at, r)
	}
	for i, r := range b.In {
		l.warnOfPrefix(entryOf(e.given["in"], i), r)
	}
}

// warnOfPrefix warns of a prefix whose last level becomes one with the first one of the topics. One that ends in
// a character such as "-" is taken for meant.
func (l *loader) warnOfPrefix(at field, r Rule) {
	rest := strings.TrimPrefix(r.Filter, r.Strip)
	if r.Prefix == "" || rest == "" || rest[0] == '/' {
		return
	}
	if c := r.Prefix[len(r.Prefix)-1]; c < 0x80 && !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
		return
	}
	l.warnf(inside(at, "prefix"), "there is no \"/\" between it and what follows, which makes topics of the kind %q: write %q", r.Prefix+rest, r.Prefix+"/")
}

// ownTopics are the first levels of what a gateway publishes.
var ownTopics = []string{"sensors", "outputs", "status", "holdfast"}

// meant returns the filter that this one looks like with a slip at its start, which is why it matches nothing
// of the gateway's; empty if it does not look like one. What clients publish cannot be known: a level that a rule of
// theirs or of a bridge's `in` names is no slip.
func (l *loader) meant(filter string) string {
	front, rest, _ := strings.Cut(filter, "/")
	lead := ""
	if front == "" { // "/sensors/#"
		lead, front = "/", rest
		front, rest, _ = strings.Cut(front, "/")
	}
	if slices.Contains(ownTopics, front) {
		switch {
		case lead != "":
			return strings.TrimPrefix(filter, "/")
		case strings.Trim(rest, "/") == "": // "sensors" or "sensors/"
			return front + "/#"
		}
		return ""
	}
	i := slices.IndexFunc(ownTopics, func(own string) bool { return distance(strings.ToLower(front), own) <= 1 })
	if i < 0 || l.isNamed(lead+front) {
		return ""
	}
	if rest == "" {
		rest = "#"
	}
	return ownTopics[i] + "/" + rest
}

// isNamed reports whether clients or upstreams publish on topics that start so, as far as the configuration knows.
func (l *loader) isNamed(front string) bool {
	starts := func(topic string) bool { return topic == front || strings.HasPrefix(topic, front+"/") }
	for _, r := range l.config.Broker.ACL {
		if starts(r.Topic) {
			return true
		}
	}
	for _, b := range l.config.Bridges {
		if slices.ContainsFunc(b.In, func(r Rule) bool { return starts(localName(r)) }) {
			return true
		}
	}
	return false
}

// localName is the filter of what an in rule publishes here, as far as one filter can tell.
func localName(r Rule) string { return r.Prefix + strings.TrimPrefix(r.Filter, r.Strip) }
