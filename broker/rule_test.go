package broker_test

import (
	"strings"
	"testing"

	"holdfast/broker"
)

// TestRules: the first rule that matches decides, whatever follows it, and names a topic with its own strip and prefix.
func TestRules(t *testing.T) {
	rules := broker.Rules{
		{Filter: "a/secret/#", Prefix: "vault/"},
		{Filter: "a/#", Strip: "a/", Prefix: "sites/north/"},
		{Filter: "a/never"},
		{Filter: "b/#", Strip: "b/"},
		{Filter: "c/+", Strip: "other/", Prefix: "x/"},
	}
	for _, tt := range []struct {
		topic string
		rule  int
		name  string // or what the error has
	}{
		{"a/secret/1", 0, "vault/a/secret/1"},
		{"a/t", 1, "sites/north/t"},
		{"a/never", 1, "sites/north/never"},
		{"a", 1, "sites/north/a"}, // strip is not at its front
		{"b/t", 3, "t"},
		{"b/", 3, `topic by rule "b/#"`},
		{"c/d", 4, "x/c/d"},
		{"c/d/e", -1, ""},
		{"$SYS/a", -1, ""},
	} {
		i := rules.Match(tt.topic)
		if i != tt.rule {
			t.Errorf("%s: rule %d decides, want %d", tt.topic, i, tt.rule)
			continue
		}
		if i < 0 {
			continue
		}
		name, err := rules[i].Name(tt.topic)
		if name != tt.name && (err == nil || !strings.Contains(err.Error(), tt.name)) {
			t.Errorf("%s: got %q, %v, want %q", tt.topic, name, err, tt.name)
		}
	}
	if n := testing.AllocsPerRun(100, func() { rules.Match("c/d/e") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
