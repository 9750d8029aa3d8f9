package views

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/part"
	"holdfast/gateway/status"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// drawEvery is how old a display may be.
const drawEvery = time.Second

// Screens is the part that decides what the displays among the outputs show. show must not block. Without a display it
// does nothing, and costs no wake-up.
func (v *Views) Screens(show func(output string, lines []string)) part.Part {
	changed := make(chan struct{}, 1)
	return part.Simple{
		Called: "displays",
		Change: func(*config.Config) (part.Change, error) {
			return part.Change{Apply: func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			}}, nil
		},
		Start: func(ctx context.Context) error {
			ticker := time.NewTicker(drawEvery)
			defer ticker.Stop()
			begun := time.Now()
			for {
				if !v.drawScreens(time.Since(begun), show) {
					ticker.Stop()
				}
				select {
				case <-ctx.Done():
					return nil
				case <-changed:
					ticker.Reset(drawEvery)
				case <-ticker.C:
				}
			}
		},
	}
}

// drawScreens gives each display its page after a time, and reports whether there is a display.
func (v *Views) drawScreens(after time.Duration, show func(output string, lines []string)) (any bool) {
	var s status.Status
	for _, c := range v.Config().Outputs {
		d := outputs.FindDriver(c.Driver)
		if d == nil || d.Screen == nil {
			continue
		}
		if !any {
			any = true
			v.flush()
			s = status.Status{Time: time.Now(), Device: v.Config().Device.ID, Sensors: v.sensorStatus(), Bridges: v.Bridges()}
			s.Clock, _ = status.ReadClock() // not synchronised if it cannot be read
		}
		columns, rows := d.Screen(c.Options)
		readings, _ := c.Options["readings"].([]string)
		pages := screenPages(&s, readings, columns, rows)
		every := max(time.Second, c.Options["page"].(time.Duration))
		show(c.Name, pages[int(after/every)%len(pages)])
	}
	return any
}

// screenPages returns the pages of a display: a line with the device and the time, and below it the chosen readings, or
// all, and the bridges. A reading of a sensor that is not well is stale, and its value is not shown.
func screenPages(s *status.Status, chosen []string, columns, rows int) (pages [][]string) {
	var body []string
	add := func(left, right string) { body = append(body, spread(left, right, columns)) }
	if len(chosen) == 0 {
		chosen = nil
		for _, x := range s.Sensors {
			chosen = append(chosen, x.Name)
		}
	}
	for _, name := range chosen {
		sensor, quantity, _ := strings.Cut(name, ".")
		i := slices.IndexFunc(s.Sensors, func(x status.Sensor) bool { return x.Name == name || x.Name == sensor })
		if i < 0 {
			add(name, "unknown")
			continue
		}
		x := &s.Sensors[i]
		well := x.State == string(sensors.StateOK)
		if len(x.Readings) == 0 {
			add(x.Name, cond(well || x.State == status.Waiting, "-", "stale"))
		}
		for _, r := range x.Readings {
			if x.Name != name && r.Quantity != quantity {
				continue
			}
			label := x.Name
			if len(x.Readings) > 1 {
				label += " " + r.Quantity
			}
			add(label, cond(well, strings.TrimSpace(shown(r.Value)+" "+r.Unit), "stale"))
		}
	}
	for _, b := range s.Bridges {
		add(b.Name, cond(b.Connected, "up", "down "+short(s.Time.Sub(b.Since))))
		if b.Depth > 0 {
			add(b.Name+" queued", strconv.FormatUint(b.Depth, 10))
		}
	}
	clock := s.Time.Format("15:04") + cond(s.Clock.Synchronised, "", "?")
	n := max(1, rows-1)
	for i := 0; i < len(body) || i == 0; i += n {
		title := s.Device
		if len(body) > n {
			title = fmt.Sprintf("%s %d/%d", s.Device, i/n+1, (len(body)+n-1)/n)
		}
		pages = append(pages, append([]string{spread(title, clock, columns)}, body[i:min(len(body), i+n)]...))
	}
	return pages
}

func cond(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// spread puts texts at both ends of a line. The left one is cut where there is no room for both.
func spread(left, right string, columns int) string {
	l, r := []rune(left), []rune(right)
	r = r[:min(len(r), columns)]
	l = l[:max(0, min(len(l), columns-len(r)-1))]
	return string(l) + strings.Repeat(" ", columns-len(l)-len(r)) + string(r)
}

// shown has as many decimals as the size of a value deserves, as on the dashboard.
func shown(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 1e9 || a > 0 && a < 0.001:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case v == math.Trunc(v) && a >= 100, a >= 10000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1 || a == 0:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// short is a duration in its largest unit.
func short(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", max(0, d/time.Second))
}
