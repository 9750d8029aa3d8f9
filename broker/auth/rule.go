package auth

import (
	"errors"
	"fmt"
	"strings"

	"holdfast/broker"
)

// Access is a set of the kinds of access that a rule allows or denies.
type Access byte

// The kinds of access. A rule that denies wins over every rule that allows, wherever it stands.
const (
	Read      Access = 1 << iota // receive messages of the topic, and subscribe to it
	Write                        // publish to it
	Subscribe                    // subscribe to it; each delivery needs Read
	Deny                         // all of it is denied
	ReadWrite = Read | Write
)

// Rule allows or denies some clients access to some topics. All conditions that are set have to hold;
// a rule without any applies to every client.
type Rule struct {
	User      string // of a client whose password was right; "*" is any
	Group     string // that the user is in
	Client    string // client identifier, which any client can claim; "*" at the end stands for any rest
	CN        string // common name in the client's certificate; "*" is any certificate
	Anonymous bool   // neither a user nor a certificate

	// Topic is a topic filter in which %u, %c and %cn stand for user, client identifier and common name
	// of the client.
	Topic  string
	Access Access

	literal bool // Topic has no patterns, whatever it looks like
}

// Check returns what is wrong with a rule, or nil.
func (r Rule) Check() error {
	if r.Access == 0 {
		return errors.New("a rule needs an access")
	}
	if r.Anonymous && (r.User != "" || r.Group != "" || r.CN != "") {
		return errors.New("an anonymous client has neither a user nor a certificate")
	}
	return CheckTopic(r.Topic)
}

// CheckTopic returns an error if topic cannot stand in a rule.
func CheckTopic(topic string) error {
	example, _ := identity{"u", "c", "n"}.expand(topic)
	if err := broker.CheckFilter(example); err != nil {
		return fmt.Errorf("want a topic filter, in which %%u, %%c and %%cn stand for the client's: %w", err)
	}
	if strings.HasPrefix(topic, broker.SharedPrefix) {
		return errors.New("want the filter alone: a rule holds for shared subscriptions as well")
	}
	return nil
}

// identity holds the names that a client has proven or claimed.
type identity struct {
	user   string // empty for none
	client string
	cn     string // empty for none
}

func (id identity) matches(r *Rule, groups map[string][]string) bool {
	is := func(want, got string) bool { return want == "" || want == got || want == "*" && got != "" }
	prefix, any := strings.CutSuffix(r.Client, "*")
	switch {
	case r.Anonymous && (id.user != "" || id.cn != ""):
	case !is(r.User, id.user) || !is(r.CN, id.cn):
	case r.Client != "" && r.Client != id.client && !(any && strings.HasPrefix(id.client, prefix)):
	case r.Group != "" && !contains(groups[r.Group], id.user):
	default:
		return true
	}
	return false
}

func contains(users []string, user string) bool {
	for _, u := range users {
		if u == user && user != "" {
			return true
		}
	}
	return false
}

// expand replaces the patterns in a topic by the client's names. ok is false if a name is missing or could reach
// beyond its level.
func (id identity) expand(topic string) (filter string, ok bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(topic, "%")
		b.WriteString(before)
		var value string
		switch {
		case !found:
			return b.String(), true
		case strings.HasPrefix(after, "cn"):
			value, after = id.cn, after[2:]
		case strings.HasPrefix(after, "c"):
			value, after = id.client, after[1:]
		case strings.HasPrefix(after, "u"):
			value, after = id.user, after[1:]
		default:
			value = "%"
		}
		if value == "" || value[0] == '$' || strings.ContainsAny(value, "+#/") {
			return "", false
		}
		b.WriteString(value)
		topic = after
	}
}

// widen replaces the levels with a pattern by "+".
func widen(topic string) string {
	level := strings.Split(topic, "/")
	for i, l := range level {
		if strings.Contains(l, "%c") || strings.Contains(l, "%u") {
			level[i] = "+"
		}
	}
	return strings.Join(level, "/")
}

// rights are the rules of a policy that hold for one client, as filters. They are not changed.
type rights struct {
	policy                       *policy
	all                          bool // nothing was configured
	read, write, subscribe, deny []string
}

func (p *policy) rights(id identity) *rights {
	r := &rights{policy: p, all: !p.guarded}
	for i := range p.rules {
		rule := &p.rules[i]
		if !id.matches(rule, p.groups) {
			continue
		}
		filter, ok := rule.Topic, true
		if !rule.literal {
			filter, ok = id.expand(rule.Topic)
		}
		switch {
		case ok && rule.Access&Deny != 0:
			r.deny = append(r.deny, filter)
		case rule.Access&Deny != 0:
			// A name with a slash or wildcard must not get a client around what it is denied.
			r.deny = append(r.deny, widen(rule.Topic))
		case !ok:
		default:
			for _, list := range []struct {
				of Access
				to *[]string
			}{{Read, &r.read}, {Write, &r.write}, {Subscribe, &r.subscribe}} {
				if rule.Access&list.of != 0 {
					*list.to = append(*list.to, filter)
				}
			}
		}
	}
	return r
}

func (r *rights) may(topic string, filters []string) bool {
	if r.all {
		return true
	}
	for _, f := range r.deny {
		if broker.Match(f, topic) {
			return false
		}
	}
	for _, f := range filters {
		if broker.Match(f, topic) {
			return true
		}
	}
	return false
}

// maySubscribe reports whether one rule allows all of what a filter selects, and none denies all of it. A member of
// a shared subscription takes messages from the others: for that the right to subscribe without that to read is
// not enough.
func (r *rights) maySubscribe(filter string) bool {
	shared := strings.HasPrefix(filter, broker.SharedPrefix)
	if shared {
		_, filter, _ = strings.Cut(filter[len(broker.SharedPrefix):], "/")
	}
	covered := func(filters []string) bool {
		for _, f := range filters {
			if broker.Covers(f, filter) {
				return true
			}
		}
		return false
	}
	return r.all || !covered(r.deny) && (covered(r.read) || !shared && covered(r.subscribe))
}
