// Package profile knows what hosted MQTT services and common brokers ask of a client and do not
// support, so that a configuration which cannot work is refused before it is used.
//
// It promises that Fill sets only what was not given, and that Check finds every setting that the
// service's documents rule out. The documents are cited where the figures are; a service may allow more
// or less by contract.
//
// It opens no connection. What a service refuses all the same is the bridge's to report.
package profile

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"holdfast/broker"
)

// Profile is a service.
type Profile struct {
	Name string

	schemes     []string
	alpn443     string // ALPN protocol without which port 443 is not MQTT, for a client with a certificate
	credentials []credential
	clientID    int           // most bytes; 0 for no limit of its own
	fixed       bool          // clientID is who the device is
	window      int           // most messages in flight; 0 for no limit of its own
	firstWindow int           // window if none is given; 0 leaves the default
	keepAlive   time.Duration // longest; 0 for no limit of its own
	leastAlive  time.Duration // shortest
	payload     int           // most bytes of a message; 0 for no limit of its own
	retained    int           // most bytes of a retained one, if that is less
	noRetain    bool          // RETAIN is not passed on
	asksForWill bool          // a will is allowed to those only whom somebody has given the right to one
	topic       int           // most bytes; 0 for no limit of its own
	levels      int           // most levels of a topic; 0 for no limit of its own
	only311     string        // why MQTT 5 is not spoken; empty if it is

	fill  func(*Settings)
	check func(Settings) []Problem
	remap func(clientID, topic string) string
}

// credential is a way to say who one is.
type credential string

const (
	certificate credential = "tls.cert and tls.key"
	password    credential = "username and password"
	token       credential = "token_file"
	sas         credential = "sas_key"
	nobody      credential = "nothing"
)

// Settings are what a profile has a say in. Keys that were not given are to be filled in.
type Settings struct {
	Upstreams          []*url.URL
	ClientID, Username string
	Password           bool // whether there is one; what it is does not matter
	TokenFile, SASKey  bool
	Certificate        bool
	ALPN               []string
	Protocol           string // "5", "3.1.1" or "auto"
	Window             int
	KeepAlive          time.Duration
	Out                []Rule
	In                 []string // filters upstream
	Status             string   // topic of the will; empty for none
}

// Rule is what is sent, under which topic.
type Rule struct{ Filter, Strip, Prefix string }

// Problem is a setting that the service does not support.
type Problem struct {
	Key  string // such as "client_id", "tls.cert" or "out[1]"
	Text string
}

// Named returns the profile of that name.
func Named(name string) (*Profile, bool) {
	for i := range profiles {
		if profiles[i].Name == name {
			return &profiles[i], true
		}
	}
	return nil, false
}

// Names are those of all profiles.
func Names() []string {
	var names []string
	for _, p := range profiles {
		names = append(names, p.Name)
	}
	return names
}

// Fill sets what was not given and the service wants in a certain way. given tells by key.
func (p *Profile) Fill(s *Settings, given func(key string) bool) {
	if !given("window") && p.firstWindow > 0 {
		s.Window = p.firstWindow
	}
	if !given("tls.alpn") && p.alpn443 != "" && s.Certificate {
		for _, u := range s.Upstreams {
			if u.Port() == "443" && u.Scheme == "mqtts" {
				s.ALPN = []string{p.alpn443}
			}
		}
	}
	if !given("protocol") && p.only311 != "" {
		s.Protocol = "3.1.1"
	}
	if !given("status") && p.asksForWill {
		s.Status = ""
	}
	if p.fill != nil {
		p.fill(s)
	}
}

// Check says what the service does not support.
func (p *Profile) Check(s Settings) []Problem {
	var found []Problem
	add := func(key, format string, args ...any) {
		found = append(found, Problem{key, fmt.Sprintf(format, args...)})
	}
	for i, u := range s.Upstreams {
		if !contains(p.schemes, u.Scheme) {
			add(fmt.Sprintf("upstream[%d]", i), "%s takes no %s: want %s", p.Name, u.Scheme, strings.Join(p.schemes, " or "))
		}
	}
	if has := s.credential(); !contains(p.credentials, has) {
		var want []string
		for _, c := range p.credentials {
			want = append(want, string(c))
		}
		add("profile", "%s wants %s, and there is %s", p.Name, strings.Join(want, ", or "), has)
	}
	if p.clientID > 0 && len(s.ClientID) > p.clientID {
		add("client_id", "%s takes at most %d bytes", p.Name, p.clientID)
	}
	if p.window > 0 && s.Window > p.window {
		add("window", "%s takes at most %d messages without an acknowledgement", p.Name, p.window)
	}
	if p.keepAlive > 0 && s.KeepAlive > p.keepAlive {
		add("keep_alive", "%s takes at most %v", p.Name, p.keepAlive)
	}
	if s.KeepAlive < p.leastAlive {
		add("keep_alive", "%s wants at least %v", p.Name, p.leastAlive)
	}
	if p.only311 != "" && s.Protocol != "3.1.1" {
		add("protocol", "%s speaks 3.1.1: %s", p.Name, p.only311)
	}
	if p.remap == nil {
		for i, r := range s.Out {
			shortest := r.Prefix + strings.TrimSuffix(strings.TrimPrefix(r.Filter, r.Strip), "#")
			if err := p.checkTopic(shortest); err != nil {
				add(fmt.Sprintf("out[%d]", i), "%v: shorten prefix, or strip more", err)
			}
		}
	}
	if p.remap == nil && s.Status != "" {
		if err := p.checkTopic(s.Status); err != nil {
			add("status", "%v: name a shorter one", err)
		}
	}
	if p.check != nil {
		found = append(found, p.check(s)...)
	}
	return found
}

func (s Settings) credential() credential {
	switch {
	case s.SASKey:
		return sas
	case s.TokenFile:
		return token
	case s.Password:
		return password
	case s.Certificate:
		return certificate
	}
	return nobody
}

func (p *Profile) checkTopic(topic string) error {
	counted := topic
	if rest, ok := strings.CutPrefix(topic, basicIngest); ok && p.Name == "aws-iot-core" {
		_, counted, _ = strings.Cut(rest, "/") // the rule's name does not count
	}
	levels := strings.Count(strings.TrimSuffix(counted, "/"), "/") + 1
	switch {
	case p.topic > 0 && len(counted) > p.topic:
		return fmt.Errorf("%s takes topics of at most %d bytes, and this has %d", p.Name, p.topic, len(counted))
	case p.levels > 0 && levels > p.levels:
		return fmt.Errorf("%s takes topics of at most %d levels, and this has %d", p.Name, p.levels, levels)
	}
	return nil
}

// Adapt fits a message to the service: name is the topic to send it under, retain whether RETAIN is
// passed on. An error is why the service would refuse it for good.
func (p *Profile) Adapt(clientID, topic string, m *broker.Message, retain bool) (name string, passOn bool, err error) {
	name = topic
	size := len(m.Payload)
	if p.remap != nil {
		name = p.remap(clientID, topic)
		size += len(name)
	} else if err := p.checkTopic(topic); err != nil {
		return "", false, err
	}
	switch {
	case len(name) > 65535: // [MQTT-4.7.3-3]
		return "", false, errors.New("topic too long")
	case p.payload > 0 && size > p.payload:
		return "", false, fmt.Errorf("%s takes messages of at most %d bytes, and this has %d", p.Name, p.payload, size)
	case retain && p.retained > 0 && size > p.retained:
		return "", false, fmt.Errorf("%s takes retained messages of at most %d bytes, and this has %d", p.Name, p.retained, size)
	}
	return name, retain && !p.noRetain, nil
}

func contains[T comparable](list []T, v T) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

// host is that of the first upstream.
func (s Settings) host() string {
	if len(s.Upstreams) == 0 {
		return ""
	}
	return strings.ToLower(s.Upstreams[0].Hostname())
}

// SASResource is what a shared access signature is for.
func SASResource(upstream, clientID string) string {
	host, _, err := net.SplitHostPort(upstream)
	if err != nil {
		host = upstream
	}
	return host + "/devices/" + clientID
}

// Deaf says that a client cannot read what it publishes.
func (p *Profile) Deaf() bool { return p.remap != nil }

// FixedClient says that the service knows a device by its client identifier, so that no other will do.
func (p *Profile) FixedClient() bool { return p.fixed }
