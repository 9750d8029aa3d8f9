package config

import (
	"errors"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"

	"holdfast/broker/dial"
)

// alone is a text that is nothing but a reference: it gives nothing away.
var alone = regexp.MustCompile(`^\$\{(env|file):[^}]*\}$`)

// Redact returns a configuration file's text without its secrets, for others to read, and whether
// there were any. Every value below a key that Load takes for secret, or that is such a key misspelt, is
// replaced, wherever it stands, unless it is a reference; comments are left out, because they may hold old ones.
func Redact(text []byte) (redactedText []byte, found bool, err error) {
	root, _, err := documents(text)
	if err != nil || len(root.Content) == 0 {
		return nil, false, errors.New("is not YAML, and is left out: who could tell what is secret in it?")
	}
	found = redact(root)
	out, err := yaml.Marshal(root)
	return out, found, err
}

// redact takes secrets and comments out of a document.
func redact(root *yaml.Node) (found bool) {
	names := map[string]bool{}
	newLoader(Options{}).root.secrets(names)
	var walk func(n *yaml.Node, secret bool)
	walk = func(n *yaml.Node, secret bool) {
		n.HeadComment, n.LineComment, n.FootComment = "", "", ""
		if secret && n.Kind == yaml.ScalarNode && n.Value != "" && !alone.MatchString(n.Value) {
			found = true
			*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: redacted}
		}
		if n.Kind == yaml.ScalarNode {
			if shown := dial.Redact(n.Value); shown != n.Value {
				found = true
				n.Value = shown
			}
		}
		for i, c := range n.Content {
			value := n.Kind == yaml.MappingNode && i%2 == 1
			walk(c, secret || value && isSecret(names, n.Content[i-1].Value))
		}
	}
	walk(root, false)
	return found
}

// isSecret reports whether a key is one of names, but for two mistakes in it.
func isSecret(names map[string]bool, key string) bool {
	for name := range names {
		if distance(strings.ToLower(key), name) <= 2 {
			return true
		}
	}
	return false
}

// secrets collects the names of secret keys.
func (t *table) secrets(names map[string]bool) {
	for _, k := range t.keys {
		if k.secret {
			names[k.name] = true
		}
		for _, t := range []*table{k.table, k.fields} {
			if t != nil {
				t.secrets(names)
			}
		}
	}
}
