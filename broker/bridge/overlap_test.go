package bridge

import "testing"

func TestCheckRules(t *testing.T) {
	for _, c := range []struct {
		out, in Rule
		bad     bool
	}{
		{Rule{Filter: "a/#"}, Rule{Filter: "a/b"}, true},
		{Rule{Filter: "a/#"}, Rule{Filter: "b/#"}, false},
		{Rule{Filter: "a/+/c"}, Rule{Filter: "+/b/c"}, true},
		{Rule{Filter: "a/+/c"}, Rule{Filter: "a/b"}, false},
		{Rule{Filter: "a"}, Rule{Filter: "a/#"}, true},
		{Rule{Filter: "a/#", Prefix: "up/"}, Rule{Filter: "a/#"}, false},
		{Rule{Filter: "a/#", Prefix: "up/"}, Rule{Filter: "up/+/b"}, true},
		{Rule{Filter: "a/#", Strip: "a/", Prefix: "up/"}, Rule{Filter: "up/a/#"}, true}, // a/a/x
		{Rule{Filter: "a/b", Strip: "a/", Prefix: "up/"}, Rule{Filter: "up/a/#"}, false},
		{Rule{Filter: "#", Strip: "x/", Prefix: "up/"}, Rule{Filter: "down/#"}, false},
		{Rule{Filter: "+/b", Strip: "a/"}, Rule{Filter: "b"}, true},
		{Rule{Filter: "+/b", Prefix: "x"}, Rule{Filter: "xy/b"}, true},
		{Rule{Filter: "#", Prefix: "x"}, Rule{Filter: "xy/b"}, true},
		{Rule{Filter: "a/b", Prefix: "x"}, Rule{Filter: "xa/b"}, true},
		{Rule{Filter: "a/b", Prefix: "x"}, Rule{Filter: "a/b"}, false},
	} {
		if err := CheckRules([]Rule{c.out}, []Rule{c.in}, false); (err != nil) != c.bad {
			t.Errorf("%+v and %+v: got %v", c.out, c.in, err)
		}
		if err := CheckRules([]Rule{c.out}, []Rule{c.in}, true); err != nil {
			t.Errorf("%+v and %+v: got %v with MQTT 5", c.out, c.in, err)
		}
	}
	if CheckRules(nil, []Rule{{Filter: "a/#"}, {Filter: "a/b"}}, true) == nil {
		t.Error("takes in rules that overlap")
	}
}
