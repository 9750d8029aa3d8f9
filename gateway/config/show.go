package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Show returns the files as Redact leaves them, each below its name, for people. The error is that of Load; the
// text is there in spite of it.
func Show(files []string, opts Options) (string, error) {
	opts = opts.complete()
	_, err := Load(files, opts)
	var b strings.Builder
	for _, name := range files {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# %s\n", name)
		text, cause := opts.ReadFile(name, maxFile)
		if cause == nil {
			text, _, cause = Redact(text)
		}
		if cause != nil {
			fmt.Fprintf(&b, "# is not shown: %v\n", cause)
			continue
		}
		b.Write(text)
	}
	return b.String(), err
}

// Merge returns one configuration of several files, without secrets: every key that one of them gives, with the value of the
// last one that does, and where that is, if there are several. References are left as they are written. After an error,
// which is that of Load, there is no text.
func Merge(files []string, opts Options) (string, error) {
	l := newLoader(opts.complete())
	l.load(files)
	l.finish()
	if len(l.errs) > 0 {
		return "", l.errs.sorted(files)
	}
	m := merger{}
	root := m.mapping(l.root)
	redact(root)
	for n, at := range m {
		if len(files) > 1 {
			n.LineComment = fmt.Sprintf("# %s:%d", at.file, at.line)
		}
	}
	text, err := yaml.Marshal(root)
	return string(text), err
}

// merger maps nodes to the places that their values are from.
type merger map[*yaml.Node]field

// mapping is what was given of a section.
func (m merger) mapping(t *table) *yaml.Node {
	all := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, value *yaml.Node, at field) {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: name}
		all.Content = append(all.Content, key, value)
		switch {
		case at.node == nil:
		case value.Kind == yaml.ScalarNode || value.Style&yaml.FlowStyle != 0:
			m[value] = at
		default:
			m[key] = at
		}
	}
	for _, k := range t.keys {
		at, given := t.given[k.name]
		section := k.fields
		if section == nil && k.list == nil {
			section = k.table
		}
		switch {
		case !given:
		case k.entries != nil:
			add(k.name, m.entries(k), field{})
		case section != nil:
			add(k.name, m.mapping(section), field{})
		default:
			add(k.name, at.node, at)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.rest)) {
		add(name, t.rest[name].node, t.rest[name])
	}
	return all
}

func (m merger) entries(k key) *yaml.Node {
	all := &yaml.Node{Kind: yaml.SequenceNode}
	if k.named {
		all.Kind = yaml.MappingNode
	}
	for _, e := range k.entries() {
		if k.named {
			all.Content = append(all.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: e.name})
		}
		all.Content = append(all.Content, m.mapping(e.table))
	}
	return all
}
