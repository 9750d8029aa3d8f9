package auth

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/broker"
)

// grant returns the Grant of a client with these names.
func grant(t testing.TB, opts Options, id identity) *Grant {
	t.Helper()
	a, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	g := &Grant{auth: a, id: id}
	g.rights.Store(a.policy.Load().rights(id))
	return g
}

// may is "rws" for what a client may do with a topic.
func may(g *Grant, topic string) string {
	s := ""
	if g.MayRead(topic) {
		s += "r"
	}
	if g.MayWrite(topic) {
		s += "w"
	}
	if g.MaySubscribe(topic) {
		s += "s"
	}
	return s
}

func TestRules(t *testing.T) {
	opts := Options{
		Groups: []Group{{"operators", []string{"anna", "ben"}}},
		Rules: []Rule{
			{Topic: "public/#", Access: Read},
			{Topic: "public/guest", Access: Write, Anonymous: true},
			{Topic: "own/%u/#", Access: ReadWrite},
			{Topic: "device/%c", Access: Write, Client: "esp-*"},
			{Topic: "dev-%c/x", Access: Write},
			{Topic: "cert/%cn/#", Access: ReadWrite},
			{Topic: "any/user", Access: Read, User: "*"},
			{Topic: "any/cert", Access: Read, CN: "*"},
			{Topic: "#", Access: ReadWrite, Group: "operators"},
			{Topic: "$SYS/#", Access: Read, User: "anna"},
			{Topic: "secret/#", Access: Deny, User: "ben"},
			{Topic: "public/%c/private", Access: Deny},
			{Topic: "all/#", Access: Subscribe, User: "carl"},
			{Topic: "all/a", Access: Read, User: "carl"},
		},
	}
	anna, ben, carl := identity{"anna", "c1", ""}, identity{"ben", "c2", ""}, identity{"carl", "esp-1", ""}
	nobody, device := identity{"", "c3", ""}, identity{"", "esp-2", "pump"}
	for _, tt := range []struct {
		id    identity
		topic string
		want  string
	}{
		{nobody, "public/x", "rs"}, {nobody, "public", "rs"}, {nobody, "private", ""}, {nobody, "public/guest", "rws"},
		{nobody, "public/#", "rs"}, {nobody, "#", ""}, {nobody, "+/x", ""}, {nobody, "$share/g/public/#", "s"},
		{nobody, "own//x", ""}, {nobody, "cert//x", ""}, {nobody, "any/user", ""}, {nobody, "any/cert", ""},
		{nobody, "device/c3", ""}, {nobody, "dev-c3/x", "w"}, {nobody, "dev-c4/x", ""},
		{carl, "public/guest", "rs"}, {carl, "own/carl/a/b", "rws"}, {carl, "own/anna/a", ""}, {carl, "own/carl/#", "rws"},
		{carl, "device/esp-1", "w"}, {carl, "device/esp-2", ""}, {carl, "any/user", "rs"},
		{carl, "all/a", "rs"}, {carl, "all/b", "s"}, {carl, "all/#", "s"},
		{device, "cert/pump/on", "rws"}, {device, "cert/other/on", ""}, {device, "any/cert", "rs"}, {device, "any/user", ""},
		{anna, "anything", "rws"}, {anna, "#", "rws"}, {anna, "$SYS/x", "rs"}, {anna, "$SYS/#", "rs"}, {anna, "secret/x", "rws"},
		{ben, "secret/x", ""}, {ben, "secret/#", ""}, {ben, "secret/+/x", ""}, {ben, "#", "rws"}, {ben, "$SYS/x", ""}, {ben, "+/x", "rws"},
		{nobody, "public/c3/private", ""}, {nobody, "public/c4/private", "rs"},
		// Names that reach beyond their level allow nothing, and what is denied stays denied.
		{identity{"+", "x", ""}, "own/+/x", ""}, {identity{"a/b", "x", ""}, "own/a/b/x", ""}, {identity{"#", "x", ""}, "own/#", ""},
		{identity{"", "a/b", ""}, "public/a/private", ""}, {identity{"", "a/b", ""}, "public/x", "rs"},
		{identity{"", "$SYS", ""}, "dev-$SYS/x", ""}, {identity{"", "esp-#", ""}, "device/#", ""},
	} {
		g := grant(t, opts, tt.id)
		if got := may(g, tt.topic); got != tt.want {
			// A filter is no topic to read or write.
			if strings.ContainsAny(tt.topic, "+#") || strings.HasPrefix(tt.topic, "$share") {
				got = strings.Trim(got, "rw")
				if got == strings.Trim(tt.want, "rw") {
					continue
				}
			}
			t.Errorf("%+v, %s: got %q, want %q", tt.id, tt.topic, got, tt.want)
		}
	}
	var own *Grant
	if may(own, "x") != "rws" || own.Revoked() || may(grant(t, Options{}, nobody), "$SYS/#") != "rws" {
		t.Error("the gateway itself, and everybody without a configuration, may do everything")
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	for _, r := range []Rule{
		{}, {Topic: "a"}, {Access: Read}, {Topic: "a/#/b", Access: Read}, {Topic: "a%u+", Access: Read},
		{Topic: "$share/g/a", Access: Read}, {Topic: "a", Access: Read, Anonymous: true, User: "x"},
	} {
		if _, err := New(Options{Rules: []Rule{r}}); err == nil || !strings.HasPrefix(err.Error(), "rule 1: ") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// TestCovers compares covers with what it means, over all filters and topics of three levels.
func TestCovers(t *testing.T) {
	var filters, topics []string
	levels := []string{"a", "b", "", "$s", "+", "#"}
	var build func(prefix string, depth int)
	build = func(prefix string, depth int) {
		for _, l := range levels {
			f := prefix + l
			if broker.CheckFilter(f) == nil {
				filters = append(filters, f)
				if broker.CheckTopic(f) == nil {
					topics = append(topics, f)
				}
			}
			if depth < 3 {
				build(f+"/", depth+1)
			}
		}
	}
	build("", 1)
	// A level of its own and a longer topic, for what a wildcard may match beyond those.
	for _, p := range append(slices.Clone(topics), "z") {
		topics = append(topics, p+"/z", p+"/z/z")
	}
	topics = append(topics, "z")
	for _, outer := range filters {
		for _, inner := range filters {
			want := true
			for _, topic := range topics {
				if broker.Match(inner, topic) && !broker.Match(outer, topic) {
					want = false
					break
				}
			}
			// "#" and "/#" would also match an empty topic, which there is none of: "+/#" would do as well.
			odd := inner == "#" && outer != "#" || inner == "/#"
			if got := broker.Covers(outer, inner); got != want && !odd || got && !want {
				t.Fatalf("Covers(%q, %q): got %v", outer, inner, got)
			}
		}
	}
	t.Logf("%d pairs", len(filters)*len(filters))
}

func TestMosquittoACL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acl")
	text := "# anonymous\ntopic read news/#\n\nuser anna\ntopic own topic/%u\ntopic deny news/bad\ntopic write  out\n\npattern readwrite c/%c/#\npattern read u/%u\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := Options{ACLFile: file}
	anna, nobody := grant(t, opts, identity{"anna", "c1", ""}), grant(t, opts, identity{"", "c2", ""})
	for _, tt := range []struct {
		g     *Grant
		topic string
		want  string
	}{
		{nobody, "news/x", "rs"}, {nobody, "out", "s"}, {nobody, "c/c2/x", "rws"}, {nobody, "c/c1/x", "s"}, {nobody, "$SYS/x", "s"},
		{anna, "news/x", "s"}, {anna, "news/bad", ""}, {anna, "own topic/%u", "rws"}, {anna, "own topic/anna", "s"},
		{anna, "out", "ws"}, {anna, "u/anna", "rs"}, {anna, "c/c1/x", "rws"},
	} {
		if got := may(tt.g, tt.topic); got != tt.want {
			t.Errorf("%s: %s: got %q, want %q", tt.g.id.user, tt.topic, got, tt.want)
		}
	}
	if err := os.WriteFile(file, []byte("topics read a\nuser\ntopic read a/#/b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(opts)
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), file+`:1: unknown keyword "topics"`) ||
		!strings.Contains(err.Error(), file+":2: want") || !strings.Contains(err.Error(), file+":3: want a topic filter") {
		t.Errorf("got\n%v", err)
	}
}

func TestNoAllocations(t *testing.T) {
	a, err := New(Options{Rules: []Rule{
		{Topic: "a/%c/#", Access: ReadWrite}, {Topic: "b/+/c", Access: Read}, {Topic: "a/x/y", Access: Deny},
	}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := a.Login(context.Background(), Login{ClientID: "dev", Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if !g.MayRead("b/x/c") || !g.MayWrite("a/dev/t") || g.MayWrite("a/other/t") || !g.MaySubscribe("b/+/c") {
			t.Fatal("wrong")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
