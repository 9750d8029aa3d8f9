package filters

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"holdfast/broker"
)

// client is a subscriber that takes the messages of shared subscriptions when its field asks for it.
type client struct{ turn Turn }

func (c *client) Turn(string) Turn { return c.turn }

// TestIndexAgreesWithMatch: random filters and topics, with the plain definition as the judge, while
// subscriptions come and go; in the end nothing is left.
func TestIndexAgreesWithMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	level := func(more ...string) string { return append([]string{"a", "b", "", "$x"}, more...)[r.IntN(4+len(more))] }
	topic := func() string {
		var l []string
		for range 1 + r.IntN(4) {
			l = append(l, level())
		}
		return strings.Join(l, "/")
	}
	filter := func() string {
		var l []string
		for range 1 + r.IntN(4) {
			l = append(l, level("+", "+"))
		}
		if r.IntN(4) == 0 {
			l = append(l[:len(l)-1], "#")
		}
		return strings.Join(l, "/")
	}
	x := New[*client](64)
	targets := make([]*client, 20)
	have := map[*client]map[string]Subscription{}
	for i := range targets {
		targets[i] = &client{}
		have[targets[i]] = map[string]Subscription{}
	}
	for step := range 20_000 {
		tg := targets[r.IntN(len(targets))]
		f := filter()
		if broker.CheckFilter(f) != nil {
			continue
		}
		_, had := have[tg][f]
		if r.IntN(3) > 0 {
			sub := Subscription{QoS: byte(r.IntN(3)), ID: uint32(r.IntN(3))}
			if isNew, _, _, ok := x.Add(f, tg, sub, NoLimit, NoLimit); isNew == had || !ok {
				t.Fatalf("add %q: new %v, had %v", f, isNew, had)
			}
			have[tg][f] = sub
		} else if x.Remove(f, tg) != had {
			t.Fatalf("remove %q: had %v", f, had)
		} else {
			delete(have[tg], f)
		}
		if step%10 > 0 {
			continue
		}
		name := topic()
		if name == "" {
			continue
		}
		if f, want := x.find(name), mostSteps(&x.root); f.steps > want || int(max(1, x.root.steps)) != want {
			t.Fatalf("%q: %d steps, at most %d expected, want %d", name, f.steps, x.root.steps, want)
		}
		found, _ := x.match(name)
		for _, tg := range targets {
			var want *Match[*client]
			for f, sub := range have[tg] {
				if broker.Match(f, name) {
					m := newMatch(tg, sub)
					if want == nil {
						want = &m
					} else {
						want.add(&m)
					}
				}
			}
			i := slices.IndexFunc(found, func(m Match[*client]) bool { return m.Target == tg })
			if (i >= 0) != (want != nil) {
				t.Fatalf("%q: found %v, want %v of %v", name, i >= 0, want != nil, have[tg])
			}
			if want == nil {
				continue
			}
			slices.Sort(found[i].IDs)
			slices.Sort(want.IDs)
			if found[i].QoS != want.QoS || !slices.Equal(found[i].IDs, want.IDs) {
				t.Fatalf("%q: got %+v, want %+v", name, found[i], want)
			}
			found = slices.Delete(found, i, i+1)
		}
		if len(found) > 0 {
			t.Fatalf("%q: %d targets twice", name, len(found))
		}
	}
	for tg, subs := range have {
		for f := range subs {
			x.Remove(f, tg)
		}
	}
	if x.Len() != 0 || !x.root.bare() || x.root.steps != 1 {
		t.Errorf("%d subscriptions are left: %+v", x.Len(), x.root)
	}
}

// mostSteps is how many nodes a search from n can visit at most: one child by its name, and the one of "+".
func mostSteps(n *node[*client]) int {
	most := 0
	if n.one != nil {
		most = mostSteps(n.one)
	}
	for _, child := range n.many {
		most = max(most, mostSteps(child))
	}
	if n.plus != nil {
		most += mostSteps(n.plus)
	}
	return 1 + most
}

// TestSearchesAreBounded: filters are made to branch at each level, or at the last ones, or to go deep behind a
// branch; however many are tried, no topic takes more steps than the limit, counted.
func TestSearchesAreBounded(t *testing.T) {
	const most = 1000
	branches := func(i, levels int, name string) string {
		var l []string
		for bit := range levels {
			l = append(l, []string{name, "+"}[i>>bit&1])
		}
		return strings.Join(l, "/")
	}
	for name, filter := range map[string]func(i int) string{
		"all levels":   func(i int) string { return branches(i, 16, "a") + "/z" },
		"deep tails":   func(i int) string { return branches(i, 6, "a") + "/" + strings.Repeat("a/", 56) + "z" },
		"many names":   func(i int) string { return fmt.Sprintf("a/%s/%d", branches(i%4096, 12, "a"), i%16) },
		"with a group": func(i int) string { return "$share/g/" + branches(i, 16, "a") },
		"below":        func(i int) string { return branches(i, 16, "a") + "/#" },
	} {
		t.Run(name, func(t *testing.T) {
			x := New[*client](64)
			refused := 0
			tg := &client{}
			added := map[string]bool{}
			for i := range 1 << 16 {
				f := filter(i)
				if _, _, _, ok := x.Add(f, tg, Subscription{}, most, NoLimit); ok {
					added[f] = true
				} else {
					refused++
				}
			}
			worst := 0
			for _, topic := range []string{strings.Repeat("a/", 16) + "z", strings.Repeat("a/", 62) + "z", strings.Repeat("a/", 15) + "a", "b/" + strings.Repeat("a/", 14) + "a"} {
				f := x.find(topic)
				worst = max(worst, f.steps)
			}
			if refused == 0 || worst > most || int(x.root.steps) > most {
				t.Errorf("%d refused, %d steps, at most %d", refused, worst, x.root.steps)
			}
			if worst < most/20 {
				t.Errorf("%d steps at most: this is no attack", worst)
			}
			for f := range added {
				x.Remove(f, tg)
			}
			if !x.root.bare() || x.root.steps != 1 {
				t.Errorf("left: %+v", x.root)
			}
		})
	}
}

// BenchmarkMatch: one topic among n subscriptions, without the cache of topics.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		x := New[*client](64)
		for i := range n {
			f := fmt.Sprintf("site/%d/device/%d/sensor/temperature", i%100, i)
			switch i % 100 {
			case 1:
				f = fmt.Sprintf("site/+/device/%d/#", i)
			case 2:
				f = fmt.Sprintf("+/+/+/%d/+/temperature", i)
			}
			x.Add(f, &client{}, Subscription{QoS: 1}, NoLimit, NoLimit)
		}
		x.Add("site/#", &client{}, Subscription{}, NoLimit, NoLimit)
		x.Add("+/+/+/+/+/+", &client{}, Subscription{}, NoLimit, NoLimit)
		b.Run(fmt.Sprintf("%d subscriptions", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x.match(fmt.Sprintf("site/%d/device/%d/sensor/temperature", i%100, i%n))
			}
		})
	}
	for _, levels := range []int{8, 16} { // every combination of a name and "+", below a "#" at each level
		x := New[*client](64)
		for i := range 1 << 8 {
			var l []string
			for bit := range levels {
				l = append(l, []string{"a", "+"}[i>>(bit%8)&1])
			}
			x.Add(strings.Join(l, "/"), &client{}, Subscription{}, NoLimit, NoLimit)
			x.Add(strings.Join(l[:bit(i)], "/")+"/#", &client{}, Subscription{}, NoLimit, NoLimit)
		}
		topic := strings.Repeat("a/", levels-1) + "a"
		b.Run(fmt.Sprintf("wildcards, %d levels deep", levels), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.match(topic)
			}
		})
	}
}

func bit(i int) int { return 1 + i%7 }

// BenchmarkResolve: a topic that is published to again.
func BenchmarkResolve(b *testing.B) {
	x := New[*client](64)
	for i := range 100_000 {
		x.Add(fmt.Sprintf("site/%d/device/%d", i%100, i), &client{}, Subscription{}, NoLimit, NoLimit)
	}
	name := []byte("site/7/device/7")
	b.ReportAllocs()
	for b.Loop() {
		x.Resolve(x.Name(name))
	}
}
