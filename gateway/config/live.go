package config

import "reflect"

// live marks the row of a key whose change a running gateway applies. All others need a restart.
func live(k kind) kind {
	k.live = true
	return k
}

// NeedRestart returns the keys whose values differ between old and now and that a running gateway cannot
// apply, in the order of the configuration.
func NeedRestart(old, now *Config) (keys []string) {
	rows := func(c *Config) *table {
		l := newLoader(Options{})
		*l.config = *c // what the rows point to
		return l.root
	}
	var compare func(a, b *table, prefix string)
	compare = func(a, b *table, prefix string) {
		for i, k := range a.keys {
			path := prefix + k.name
			switch {
			case k.live:
			case k.isSection():
				compare(k.table, b.keys[i].table, path+".")
			case !reflect.DeepEqual(k.into, b.keys[i].into):
				keys = append(keys, path)
			}
		}
	}
	compare(rows(old), rows(now), "")
	return keys
}

// isSection reports whether a key has a mapping of other keys, of which there is one.
func (k kind) isSection() bool { return k.table != nil && k.list == nil && k.entries == nil }
