package verify

import (
	"cmp"
	"maps"
	"slices"
)

// Report returns the findings until now.
func (c *Checker) Report() *Report {
	r := &Report{Ignored: c.ignored, Beyond: c.beyond}
	for _, name := range slices.Sorted(maps.Keys(c.devices)) {
		if d := c.devices[name]; d.Received > 0 {
			r.Devices = append(r.Devices, d.report())
		}
	}
	return r
}

func (d *device) report() Device {
	out := d.Device
	out.Reasons = map[string]uint64{}
	var left []Range
	restart := func(r Range) {
		if len(out.Restarts) < listed {
			out.Restarts = append(out.Restarts, r)
		}
	}
	for _, g := range d.gaps {
		if g.Last%Series == 0 { // the first reading of a series came behind it
			restart(g)
		} else {
			left = append(left, g)
		}
	}
	for _, l := range d.announced {
		if n := l.Readings; n != nil && l.Reason == unknown && l.Count == 0 && n.First <= n.Last {
			from := find(left, n.First)
			to := from
			var kept []Range
			for ; to < len(left) && left[to].First <= n.Last; to++ {
				r := Range{max(n.First, left[to].First), min(n.Last, left[to].Last)}
				restart(r)
				kept = append(kept, left[to].without(r)...)
			}
			left = slices.Replace(left, from, to, kept...)
		}
	}
	slices.SortFunc(out.Restarts, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	out.Missing = d.closed + total(left)
	losses := slices.SortedFunc(maps.Values(d.announced), func(a, b Loss) int { return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.ID, b.ID)) })
	for _, l := range losses {
		if l.Count == 0 {
			out.Unknown++
			continue
		}
		n := l.Readings
		if n == nil {
			n = &Numbers{}
		}
		out.Unnumbered += l.Count - min(l.Count, n.Count)
		if n.Count == 0 || n.First > n.Last || n.Last < d.First || n.First > d.Last {
			continue
		}
		out.Reasons[l.Reason] += n.Count
		left = n.subtract(left)
	}
	out.Unaccounted = d.closed + total(left)
	out.Announced = out.Missing - out.Unaccounted
	out.Ranges = left[:min(len(left), listed)]
	return out
}

// subtract takes at most n.Count numbers between n.First and n.Last out of gaps: what else is missing there
// is missing for another reason.
func (n *Numbers) subtract(gaps []Range) []Range {
	from := find(gaps, n.First)
	to, count := from, n.Count
	var left []Range
	for ; to < len(gaps) && gaps[to].First <= n.Last && count > 0; to++ {
		r := Range{max(n.First, gaps[to].First), min(n.Last, gaps[to].Last)}
		if r.len() > count {
			r.Last = r.First + count - 1
		}
		count -= r.len()
		left = append(left, gaps[to].without(r)...)
	}
	return slices.Replace(gaps, from, to, left...)
}

func total(gaps []Range) (n uint64) {
	for _, g := range gaps {
		n += g.len()
	}
	return n
}
