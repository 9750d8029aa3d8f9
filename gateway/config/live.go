package config

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// live are the keys that a running gateway takes over. All others need a restart.
var live = []string{
	"broker.listeners", "broker.anonymous", // which the listeners have
	"broker.users", "broker.password_file", "broker.groups", "broker.acl", "broker.acl_file",
	"bridges", "sensors", "outputs", "watch",
}

// isLive says whether a running gateway takes over what a key, or what is below it, says.
func isLive(path string) bool {
	return slices.ContainsFunc(live, func(l string) bool {
		return path == l || strings.HasPrefix(path, l+".") || strings.HasPrefix(path, l+"[]")
	})
}

// NeedRestart returns the keys that say something else in now than in old and that a running gateway
// cannot take over, in the order of the configuration.
func NeedRestart(old, now *Config) (keys []string) {
	fixed(reflect.ValueOf(*old), "", func(path string, was reflect.Value, at []int) {
		if is := reflect.ValueOf(*now).FieldByIndex(at); !reflect.DeepEqual(was.Interface(), is.Interface()) && !slices.Contains(keys, path) {
			keys = append(keys, path)
		}
	})
	return keys
}

// fixed calls f for every value of a configuration that needs a restart, with its key and where it is.
// Fields are named like their keys.
func fixed(v reflect.Value, prefix string, f func(path string, v reflect.Value, at []int)) {
	var walk func(v reflect.Value, prefix string, at []int)
	walk = func(v reflect.Value, prefix string, at []int) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			path, at := prefix+snake(field.Name), append(slices.Clone(at), i)
			if field.Name == "Endpoint" || field.Name == "Scheme" { // of a section that has a url
				path = prefix + "url"
			}
			switch {
			case isLive(path):
			case field.Type.Kind() == reflect.Struct && field.Name != "Endpoint":
				walk(v.Field(i), path+".", at)
			default:
				f(path, v.Field(i), at)
			}
		}
	}
	walk(v, prefix, nil)
}

// snake turns KeepFree into keep_free and ACLFile into acl_file.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
