package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Show returns the files as YAML for people to look at, each below its name. Secrets, and everything
// below a key that does not exist, appear as asterisks, references as they are written, and comments not
// at all, because what is commented out may be a secret too. The error is that of Load, which does not
// keep the text from being shown.
func Show(files []string, opts Options) (string, error) {
	_, err := Load(files, opts)
	l := newLoader(opts)
	var b strings.Builder
	for _, name := range files {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# %s\n", name)
		root, wrong := parse(name)
		if wrong != nil {
			b.WriteString("# cannot be shown: it is not YAML\n")
			continue
		}
		hide(root.node, l.root)
		var text bytes.Buffer
		enc := yaml.NewEncoder(&text)
		enc.SetIndent(2)
		if enc.Encode(root.node) != nil {
			b.WriteString("# cannot be shown\n")
			continue
		}
		b.Write(text.Bytes())
	}
	return b.String(), err
}

// hide replaces secrets below n, which t describes, and removes comments.
func hide(n *yaml.Node, t *table) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	if n.Kind != yaml.MappingNode || t == nil {
		for _, item := range n.Content {
			hide(item, t)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		hide(k, nil)
		row := slices.IndexFunc(t.keys, func(row key) bool { return row.name == k.Value })
		switch {
		case row < 0 && t.rest == nil || row >= 0 && t.keys[row].secret && !onlyReference(v):
			*v = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: redacted}
		case row >= 0 && k.Value == "quantities" && v.Kind == yaml.MappingNode: // whose keys are names
			for j := 0; j+1 < len(v.Content); j += 2 {
				hide(v.Content[j], nil)
				hide(v.Content[j+1], t.keys[row].table)
			}
		case row >= 0 && t.keys[row].table != nil:
			hide(v, t.keys[row].table)
		default:
			hide(v, nil)
		}
	}
}

// onlyReference says whether a value is nothing but a reference, which names a secret and does not tell it.
func onlyReference(v *yaml.Node) bool {
	s := v.Value
	return v.Kind == yaml.ScalarNode && strings.HasPrefix(s, "${") && strings.Index(s, "}") == len(s)-1
}
