package config

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
)

// schema is a part of a JSON Schema.
type schema map[string]any

// reference matches text with ${...} in it, which may stand for anything.
const reference = `\$\{`

var (
	sizeSchema     = pattern(`^[0-9.]+(KiB|MiB|GiB|TiB|kB|MB|GB|B)$`)
	durationSchema = pattern(`^\+?([0-9]+d)?([0-9.]+(h|m|s|ms|us|µs|μs|ns))*$`)
	urlSchema      = pattern(`^[A-Za-z]+://[^@]*$`)
	textsSchema    = schema{"type": "object", "additionalProperties": schema{"type": "string"}}
	pointsSchema   = schema{"type": "array", "minItems": 2, "maxItems": 100, "items": schema{
		"type": "array", "minItems": 2, "maxItems": 2, "items": scalarSchema(float(new(float64), math.Inf(-1), math.Inf(1))),
	}}
)

// pattern takes text that matches, or that has a reference in it.
func pattern(expression string) schema {
	return schema{"pattern": "(?:" + expression + ")|" + reference}
}

// Schema returns the JSON Schema (2020-12) of a configuration file, for editors, made from the tables that
// Load uses. Every file that Load takes is valid. The other way round it is not: what contradicts
// itself only as a whole, or is missing, is Load's to find, because another file may add to this one.
func Schema(drivers []sensors.Driver, outs []outputs.Driver) ([]byte, error) {
	l := newLoader(Options{})
	s := l.root.schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Configuration of Holdfast"
	of := make(map[string][]*sensors.Spec)
	for _, d := range drivers {
		of["sensors"] = append(of["sensors"], &d.Spec)
	}
	for _, d := range outs {
		of["outputs"] = append(of["outputs"], &d.Spec)
	}
	for section, drivers := range of {
		entry := s["properties"].(schema)[section].(schema)["items"].(schema)
		l.driverSchemas(entry, drivers)
	}
	return json.MarshalIndent(s, "", " ")
}

func (t *table) schema() schema {
	properties := schema{}
	for _, k := range t.keys {
		p := k.kind.whole()
		p["description"] = k.doc
		if k.def != "" && k.def != required && k.parse != nil {
			p["default"] = k.kind.literal(k.def)
		}
		properties[k.name] = p
	}
	return schema{"type": "object", "properties": properties, "additionalProperties": false}
}

// whole is the schema of a value of any kind.
func (k kind) whole() schema {
	switch {
	case k.schema != nil && k.schema["type"] != nil:
		return maps.Clone(k.schema)
	case k.list != nil && k.list.id != "":
		items := k.table.schema()
		items["required"] = []string{k.list.id}
		return schema{"type": "array", "items": items}
	case k.list != nil:
		items := k.list.item.whole()
		if t := k.table; t != nil {
			var must []string
			for _, k := range t.keys {
				if k.def == required {
					must = append(must, k.name)
				}
			}
			items["required"] = must
		}
		return schema{"type": "array", "items": items}
	case k.named:
		return schema{"type": "object", "additionalProperties": k.table.schema()}
	case k.fields != nil:
		return k.fields.schema()
	case k.table != nil:
		return k.table.schema()
	}
	return scalarSchema(k)
}

// types of a scalar in YAML, and in JSON.
var types = map[string]string{"!!str": "string", "!!timestamp": "string", "!!int": "integer", "!!float": "number", "!!bool": "boolean"}

// scalarSchema takes what is written out, or as text a reference to it.
func scalarSchema(k kind) schema {
	if k.types == nil {
		k.types = []string{"!!str"}
	}
	var ts []string
	for _, t := range k.types {
		if json := types[t]; !slices.Contains(ts, json) {
			ts = append(ts, json)
		}
	}
	s := schema{"type": ts}
	if len(ts) == 1 {
		s["type"] = ts[0]
	}
	for name, v := range k.schema {
		if v != int64(math.MinInt64) && v != int64(math.MaxInt64) {
			s[name] = v
		}
	}
	if slices.Contains(ts, "string") && k.schema["enum"] == nil {
		return s
	}
	return schema{"anyOf": []schema{s, {"type": "string", "pattern": reference}}}
}

// literal is a default as the YAML value that it is.
func (k kind) literal(def string) any {
	for _, t := range k.types {
		switch t {
		case "!!int", "!!float":
			if n, err := strconv.ParseFloat(def, 64); err == nil {
				return n
			}
		case "!!bool":
			if b, err := strconv.ParseBool(def); err == nil {
				return b
			}
		}
	}
	return strings.Trim(def, `"`)
}

// driverSchemas add to the schema of an entry what depends on its driver. An entry without one adds to
// that of another file.
func (l *loader) driverSchemas(entry schema, drivers []*sensors.Spec) {
	delete(entry, "additionalProperties")
	common := entry["properties"].(schema)
	var names []string
	var cases []schema
	for _, d := range drivers {
		names = append(names, d.Name)
		then := schema{}
		for name := range common {
			then[name] = true
		}
		then["bus"] = pattern(busPattern(d))
		if !d.Has(sensors.BusI2C) {
			delete(then, "address")
		} else if len(d.Addresses) > 0 {
			then["address"] = scalarSchema(kind{types: []string{"!!int"}, schema: schema{"enum": d.Addresses}})
		}
		for _, o := range d.Options {
			k := l.option(o, map[string]any{})
			p := k.whole()
			p["description"] = o.Doc
			if s, ok := o.Default.(interface{ String() string }); ok {
				p["default"] = s.String() // a duration
			} else if o.Default != nil {
				p["default"] = o.Default
			}
			then[o.Name] = p
		}
		cases = append(cases, schema{
			"if":   schema{"required": []string{"driver"}, "properties": schema{"driver": schema{"const": d.Name}}},
			"then": schema{"properties": then, "additionalProperties": false, "description": d.Doc},
		})
	}
	driver := scalarSchema(kind{types: []string{"!!str"}, schema: schema{"enum": names}})
	driver["description"] = common["driver"].(schema)["description"]
	common["driver"] = driver
	entry["allOf"] = cases
}

// busPattern matches the names of buses that the driver can use, as loader.bus judges them.
func busPattern(d *sensors.Spec) string {
	all := []string{"^simulated"}
	for _, k := range d.Buses {
		all = append(all, bus.NamesOf(k).Pattern.String())
	}
	return strings.Join(all, "|")
}
