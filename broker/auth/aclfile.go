package auth

import (
	"errors"
	"fmt"
	"strings"
)

// readRules reads an acl_file of Mosquitto. As there, "topic" lines before the first "user" are for
// anonymous clients, those after it for that user, and "pattern" lines for all clients; subscribing
// is always allowed, and deliveries are checked.
func readRules(name string) (rules []Rule, err error) {
	who := Rule{Anonymous: true}
	err = eachLine("acl_file", name, func(line string) error {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return errors.New("want `user NAME`, `topic [ACCESS] TOPIC` or `pattern [ACCESS] TOPIC`")
		}
		rule := who
		switch word {
		case "user":
			who = Rule{User: rest}
			return nil
		case "topic":
			rule.literal = true
		case "pattern":
			rule = Rule{}
		default:
			return fmt.Errorf("unknown keyword %q, want user, topic or pattern", word)
		}
		rule.Access, rule.Topic = ReadWrite, rest
		if word, topic, found := strings.Cut(rest, " "); found {
			if access, known := mosquittoAccess[word]; known {
				rule.Access, rule.Topic = access, strings.TrimSpace(topic)
			}
		}
		rules = append(rules, rule)
		return rule.Check()
	})
	for _, topic := range []string{"#", "$SYS/#"} {
		rules = append(rules, Rule{Topic: topic, Access: Subscribe})
	}
	return rules, err
}

var mosquittoAccess = map[string]Access{"read": Read, "write": Write, "readwrite": ReadWrite, "deny": Deny}
