package reconfigure

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/gateway/config"
	"holdfast/gateway/status"
)

// wanted is what has to work for a configuration to be confirmed without a person: every part of it that
// worked before; and every new bridge, because it may be the former one under another name. What did
// not work before is not its fault.
type wanted struct {
	bridges, sensors, outputs []string
	closed                    []string // listeners that were not open before, and need not be
	byHand                    string   // why a person has to confirm it; empty if not
}

func want(before status.Status, cfg *config.Config) (w wanted) {
	for _, l := range before.Listeners {
		if !l.Open {
			w.closed = append(w.closed, l.URL)
		}
	}
	connected := map[string]bool{}
	any := false
	for _, b := range before.Bridges {
		connected[b.Name] = b.Connected
		any = any || b.Connected
	}
	for _, b := range cfg.Bridges {
		was, known := connected[b.Name]
		if !known {
			was, known = connected[b.Was]
		}
		if was || !known {
			w.bridges = append(w.bridges, b.Name)
		}
	}
	if any && len(cfg.Bridges) == 0 {
		w.byHand = "it has no bridge any more, so a person has to confirm it: `holdfast config confirm`"
	}
	ok := map[string]bool{}
	for _, x := range before.Sensors {
		ok[x.Name] = x.State == "ok"
	}
	for _, x := range cfg.Sensors {
		if ok[x.Name] {
			w.sensors = append(w.sensors, x.Name)
		}
	}
	clear(ok)
	for _, x := range before.Outputs {
		ok[x.Name] = x.State == "ok"
	}
	for _, x := range cfg.Outputs {
		if ok[x.Name] {
			w.outputs = append(w.outputs, x.Name)
		}
	}
	return w
}

// missing returns what does not work, in words.
func (w wanted) missing(st *status.Status) (list []string) {
	for _, b := range st.Bridges {
		switch {
		case !slices.Contains(w.bridges, b.Name):
		case !b.Connected:
			list = append(list, strings.TrimSuffix("bridge "+b.Name+" is not connected: "+b.LastError, ": "))
		case b.Acknowledged == 0 && b.Sent+b.Refused > 0:
			list = append(list, fmt.Sprintf("bridge %s: the upstream has taken none of %d messages", b.Name, b.Sent+b.Refused))
		}
	}
	for _, l := range st.Listeners {
		if !l.Open && !slices.Contains(w.closed, l.URL) {
			list = append(list, l.URL+" is not open: "+l.Error)
		}
	}
	health := func(kind, name string, h status.Health) {
		switch h.State {
		case "ok":
		case status.Waiting:
			list = append(list, kind+" "+name+" has not answered yet")
		default:
			list = append(list, strings.TrimSuffix(kind+" "+name+" is "+h.State+": "+h.Reason, ": "))
		}
	}
	for _, x := range st.Sensors {
		if slices.Contains(w.sensors, x.Name) {
			health("sensor", x.Name, x.Health)
		}
	}
	for _, x := range st.Outputs {
		if slices.Contains(w.outputs, x.Name) {
			health("output", x.Name, x.Health)
		}
	}
	return list
}
