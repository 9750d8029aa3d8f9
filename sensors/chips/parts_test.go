package chips

import (
	"encoding/json"
	"math"
	"testing"
)

// FuzzParts reads any message and any place: no value is invented, twice or not finite, and the same text is read the
// same again. A text that encoding/json takes is never unreadable as a whole.
func FuzzParts(f *testing.F) {
	for _, text := range []string{`{"a":1,"b":{"c":[1,"2",true,null]}}`, `{"a":NaN}`, "21.5", `"on"`, "{", "\x00", `{"a":1e999}`, `[[[1]]]`, `{"a":"\\\"NaN"}`} {
		for _, place := range []string{"a", "b.c[1]", `["a"]`, "[0][0][0]", "a[", ""} {
			f.Add([]byte(text), place)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, place string) {
		path, err := steps(place)
		if (err == nil) != (len(path) > 0) {
			t.Fatalf("place %q: got %v, %v", place, path, err)
		}
		for _, values := range []map[string]string{nil, {"v": place, "w": "a"}} {
			if values != nil && err != nil {
				continue
			}
			options := map[string]any{"values": values}
			m, bad := readParts(options, text)
			again, _ := readParts(options, text)
			seen := map[string]bool{}
			for i, v := range m {
				if seen[v.Quantity] || math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || again[i] != v {
					t.Fatalf("%q: got %v, then %v", text, m, again)
				}
				seen[v.Quantity] = true
			}
			if len(m)+len(seen) > 2*max(1, len(values)) {
				t.Fatalf("%q: got %v", text, m)
			}
			if whole, err := decodeJSON(text); values != nil && bad != nil && len(m) == 0 && err == nil && !json.Valid(text) {
				t.Fatalf("%q: got %v of what is no JSON", text, whole)
			}
		}
	})
}
