package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"holdfast/broker/auth"
	"holdfast/broker/dial"
)

// field is one value in one file, with what a message about it needs.
type field struct {
	file string
	line int
	path string // "bridges[cloud].window"; empty for the whole file
	node *yaml.Node
}

// child is the value of the key k in the mapping f.
func (f field) child(k, v *yaml.Node) field {
	c := field{file: f.file, line: v.Line, path: f.key(k.Value).path, node: v}
	if v.Kind != yaml.ScalarNode || v.Value == "" {
		c.line = k.Line // a mapping, a list and nothing at all start below their key
	}
	return c
}

// item is the value at index i of the list f.
func (f field) item(i int) field {
	n := f.node.Content[i]
	return field{file: f.file, line: n.Line, path: fmt.Sprintf("%s[%d]", f.path, i), node: n}
}

// key is f with the path of a key in it, for a message about a key that is missing or unknown.
func (f field) key(name string) field {
	name = plain(name)
	if f.path != "" {
		name = f.path + "." + name
	}
	f.path = name
	return f
}

// shown is how messages name the value: as it is written, with its references unresolved.
func (f field) shown() string {
	if f.node.ShortTag() != "!!str" {
		return plain(f.node.Value)
	}
	return strconv.Quote(short(dial.Redact(f.node.Value)))
}

// plain is text as part of a path: quoted if it has characters that would make the path misleading.
func plain(text string) string {
	text = short(text)
	odd := func(r rune) bool { return !strconv.IsPrint(r) || strings.ContainsRune(` []"`, r) }
	if text == "" || strings.ContainsFunc(text, odd) {
		return strconv.Quote(text)
	}
	return text
}

func short(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// A table is a section of the configuration: the keys it may have, and where they were given.
type table struct {
	keys  []key
	given map[string]field // the place of every key that a file gives, the last one if several do
	rest  map[string]field // takes unknown keys; nil to report them
}

func newTable(keys ...key) *table {
	return &table{keys: keys, given: make(map[string]field)}
}

// key is one row of a section's table. The rows are also the README's.
type key struct {
	name string
	def  string // the default as it would be written, "required", or empty for none
	doc  string
	kind
}

const required = "required"

// kind is what a key takes: a scalar that parse stores, or a mapping or list that decode walks.
type kind struct {
	into   any      // pointer to where the value is stored, of what is compared on a reload
	live   bool     // a running gateway takes a change over, also of what is below it; others need a restart
	want   string   // "text", "a list of rules"
	types  []string // YAML types of a scalar; nil means any
	secret bool     // never shown, not even as it is written
	number bool     // people and YAML have to read it as the same number
	hex    bool     // of a number: 0x76 is one
	parse  func(text string) error
	decode func(f field)
	table  *table // of a mapping or of a list's items, for the documentation
	schema schema // beside its type: what the JSON Schema knows of a scalar, or a whole one
	list   *list  // nil if it is none
	fields *table // table, also where the documentation does not repeat it
	named  bool   // a mapping of names to what table has
	// entries are what all files together have of an overlaid list, or below names; nil if it is neither.
	entries func() []entry
}

// entry is one of a list whose entries are changed by later files, or what is below a name.
type entry struct {
	name string // empty in a list
	*table
}

// list describes a list, beside its items' table.
type list struct {
	item kind   // of a list that is replaced as a whole
	id   string // the key that identifies entries of an overlaid list
}

// loader holds the state of one Load.
type loader struct {
	opts     Options
	config   *Config
	errs     Errors
	retain   bool   // readings of sensors that do not say otherwise
	deviceID string // for ${device.id}; empty until settled
	expanded int    // bytes that references have put in so far

	root      *table
	identity  *table
	broker    *table
	web       *table
	anonymous bool // broker.anonymous, if that is given
	listeners []*element[Listener]
	users     []*element[User]
	groups    []*element[auth.Group]
	rules     []placed // of broker.acl
	bridges   []*element[Bridge]
	sensors   []*element[sensorEntry]
	outputs   []*element[output]
	chips     map[string]device // what is at an address, by bus and address
	claims    []claimed         // what the sensors and outputs before have
}

func (l *loader) errorf(f field, format string, args ...any) {
	l.errs = append(l.errs, Error{File: f.file, Line: f.line, Key: f.path, Text: fmt.Sprintf(format, args...)})
}

const aMapping = "a mapping of keys to values"

const noAnchors = "anchors, aliases and merge keys are not supported: repeat the value, or quote text that starts with & or *"

// is reports whether f is a value of a certain kind, and complains if it is not.
func (l *loader) is(f field, want yaml.Kind, what string) bool {
	n := f.node
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		l.errorf(f, noAnchors)
	case n.Style&yaml.TaggedStyle != 0:
		l.errorf(f, "YAML tags are not supported: remove it, or quote text that starts with !")
	case n.ShortTag() == "!!null":
		l.errorf(f, "has no value, want %s: give it one or remove the key", what)
	case n.Kind != want:
		l.errorf(f, "got %s, want %s", map[yaml.Kind]string{
			yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value",
		}[n.Kind], what)
	default:
		return true
	}
	return false
}

func (l *loader) decode(f field, k kind) {
	if k.decode != nil {
		k.decode(f)
		return
	}
	if !l.is(f, yaml.ScalarNode, k.want) {
		return
	}
	shown := f.shown()
	if k.secret {
		shown = redacted
	}
	text, resolved, err := l.resolve(f)
	if err != nil {
		l.errorf(f, "%v", err)
		return
	}
	if k.number {
		if why := ambiguous(text, k.hex); why != "" {
			l.errorf(f, "got %s, want %s%s", shown, k.want, why)
			return
		}
	}
	if tag := f.node.ShortTag(); !resolved && k.types != nil && !slices.Contains(k.types, tag) {
		remedy, takesText := "", slices.Contains(k.types, "!!str") && !k.number
		switch {
		case tag == "!!str" && k.parse(text) == nil:
			remedy = ": remove the quotes"
		case takesText && (k.schema["enum"] == nil || k.parse(text) == nil):
			remedy = ": put it in quotes"
		}
		l.errorf(f, "got %s, want %s%s", shown, k.want, remedy)
		return
	}
	if err := k.parse(text); err != nil {
		if errors.Is(err, errCredentials) {
			shown = redacted
		}
		l.errorf(f, "got %s, %v", shown, err)
	}
}

// mapping decodes what f gives of t and leaves the rest of t as it is. It reports whether f is a
// mapping at all.
func (l *loader) mapping(f field, t *table) bool {
	if !l.is(f, yaml.MappingNode, aMapping) {
		return false
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(f.node.Content); i += 2 {
		k, v := f.node.Content[i], f.node.Content[i+1]
		at := f.key(k.Value)
		at.line = k.Line
		row := slices.IndexFunc(t.keys, func(row key) bool { return row.name == k.Value })
		switch {
		case k.Kind == yaml.AliasNode || k.Anchor != "" || k.ShortTag() == "!!merge":
			at.path = f.path
			l.errorf(at, noAnchors)
			continue
		case k.Kind != yaml.ScalarNode:
			at.path = f.path
			l.errorf(at, "a key has to be plain text")
			continue
		case lines[k.Value] > 0:
			l.errorf(at, "given twice: the first is on line %d", lines[k.Value])
			continue
		}
		lines[k.Value] = k.Line
		switch {
		case row >= 0:
			t.given[k.Value] = f.child(k, v)
			l.decode(t.given[k.Value], t.keys[row].kind)
		case t.rest != nil:
			t.rest[k.Value] = f.child(k, v)
		default:
			l.errorf(at, "unknown key, %s%s", nearest(k.Value, t.names()), l.elsewhere(k.Value, t))
		}
	}
	return true
}

func (t *table) names() []string {
	names := make([]string, len(t.keys))
	for i, k := range t.keys {
		names[i] = k.name
	}
	return names
}

// defaults stores the defaults of t. They are our own text: one that does not parse is a bug.
func (l *loader) defaults(t *table) {
	for _, k := range t.keys {
		if k.parse == nil || k.def == "" || k.def == required {
			continue
		}
		if err := k.parse(strings.ReplaceAll(k.def, "${device.id}", l.deviceID)); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", k.name, err))
		}
	}
}

// require complains about the keys of t that have to be given and are not. At is the mapping.
func (l *loader) require(at field, t *table) {
	for _, k := range t.keys {
		if _, ok := t.given[k.name]; k.def == required && !ok {
			l.errorf(at.key(k.name), "missing, want %s", k.want)
		}
	}
}
