package config

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// section is a mapping that overlays key by key.
func (l *loader) section(t *table) kind {
	l.defaults(t)
	return kind{want: aMapping, decode: func(f field) { l.mapping(f, t) }, table: t, fields: t}
}

// replaced is a list whose whole content a later file replaces.
func replaced[T any](l *loader, want string, to *[]T, each func(*T) kind) kind {
	item := each(new(T))
	return kind{
		into: to,
		want: want,
		decode: func(f field) {
			if !l.is(f, yaml.SequenceNode, want) {
				return
			}
			values := make([]T, len(f.node.Content))
			for i := range values {
				l.decode(f.item(i), each(&values[i]))
			}
			*to = values
		},
		table: item.table,
		list:  &list{item: item},
	}
}

// element is one entry of an overlaid list.
type element[T any] struct {
	value T
	at    field // where it was first named
	*table
}

// overlaid is a list of mappings in which a later file changes and adds, but does not remove. The
// key id identifies entries; same brings its text into one form.
func overlaid[T any](l *loader, want, id string, to *[]*element[T], same func(string) string, keys func(*T) *table) kind {
	index := make(map[string]*element[T])
	return kind{
		want: want,
		decode: func(f field) {
			if !l.is(f, yaml.SequenceNode, want) {
				return
			}
			first := make(map[string]int) // lines in this file
			for i := range f.node.Content {
				at := f.item(i)
				name, shown, ok := l.identify(at, id)
				name = same(name)
				if ok && id == "name" {
					at.path = f.path + "[" + plain(shown) + "]"
				}
				e := index[name]
				if !ok || e == nil || first[name] > 0 {
					e = &element[T]{at: at}
					e.table = keys(&e.value)
					l.defaults(e.table)
				}
				switch {
				case !ok: // decoded for the sake of its other mistakes
				case first[name] > 0:
					l.errorf(at.key(id), "given twice: the first is on line %d", first[name])
				default:
					first[name] = at.line
					if index[name] == nil {
						index[name] = e
						*to = append(*to, e)
					}
				}
				before := len(l.errs)
				l.mapping(at, e.table)
				switch {
				case ok || at.node.Kind != yaml.MappingNode:
				case e.given[id].node == nil:
					l.errorf(at.key(id), "missing: every entry needs its own")
				case len(l.errs) == before: // no entry vanishes without a word
					l.errorf(e.given[id], "cannot tell entries apart: want text")
				}
			}
		},
		table: keys(new(T)),
		list:  &list{id: id},
		entries: func() (all []entry) {
			for _, e := range *to {
				all = append(all, entry{table: e.table})
			}
			return all
		},
	}
}

// identify returns the text of the key id in the mapping f, resolved and as it is written.
func (l *loader) identify(f field, id string) (text, shown string, ok bool) {
	if f.node.Kind != yaml.MappingNode {
		return "", "", false
	}
	for i := 0; i+1 < len(f.node.Content); i += 2 {
		k, v := f.node.Content[i], f.node.Content[i+1]
		if k.Value != id || v.Kind != yaml.ScalarNode || v.ShortTag() != "!!str" && v.ShortTag() != "!!timestamp" {
			continue
		}
		text, _, err := l.resolve(f.child(k, v))
		return text, v.Value, err == nil && strings.TrimSpace(text) != ""
	}
	return "", "", false
}
