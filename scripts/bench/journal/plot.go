package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// One chart is chartWidth by chartHeight, with space for labels on the left and below.
const (
	chartWidth  = 380
	chartHeight = 300
	chartLeft   = 60
	chartTop    = 50
	chartGap    = 90
)

// Colours that most people with impaired colour vision can distinguish (Okabe and Ito).
var colours = []string{"#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}

// chart is a set of lines on two logarithmic axes.
type chart struct {
	title  string
	series []string
	points map[string][]point
}

type point struct{ x, y float64 }

// plot writes the acknowledgements a second and the flash bytes against the messages in flight, in
// steady state on one target, as SVG.
func plot(w io.Writer, results []Result, target string) error {
	acks := chart{title: "durable acknowledgements a second", points: map[string][]point{}}
	flash := chart{title: "bytes to flash for a byte of payload", points: map[string][]point{}}
	for _, m := range results {
		if m.Target != target || m.Phase != "steady" {
			continue
		}
		acks.add(m.Queue, m.InFlight, m.Acks)
		flash.add(m.Queue, m.InFlight, m.FlashRatio)
	}
	width := chartLeft + 2*chartWidth + chartGap + 130
	height := chartTop + chartHeight + 50
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text(&b, chartLeft, 18, "start", fmt.Sprintf("%d-byte messages, steady state, %s", payloadSize, targetTitle(target)))
	acks.draw(&b, chartLeft)
	flash.draw(&b, chartLeft+chartWidth+chartGap)
	for i, name := range acks.series {
		y := chartTop + 20 + 20*i
		x := width - 115
		fmt.Fprintf(&b, `<path d="M%d %dh18" stroke="%s" stroke-width="%d"/>`+"\n", x, y, colour(i), stroke(i))
		text(&b, x+24, y+4, "start", name)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func targetTitle(target string) string {
	return map[string]string{
		"card": "simulated SD card (1 ms a command, 20 MB/s) under journaled ext4",
		"loop": "journaled ext4 on a loop device on this machine's disk",
		"disk": "this machine's disk",
	}[target]
}

func (c *chart) add(series string, x int, y float64) {
	if len(c.points[series]) == 0 {
		c.series = append(c.series, series)
	}
	c.points[series] = append(c.points[series], point{float64(x), y})
}

func (c *chart) draw(b *strings.Builder, left int) {
	minX, maxX, minY, maxY := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, points := range c.points {
		for _, p := range points {
			minX, maxX = min(minX, p.x), max(maxX, p.x)
			minY, maxY = min(minY, p.y), max(maxY, p.y)
		}
	}
	x := scale(minX, max(maxX, 10*minX), left, left+chartWidth)
	y := scale(decade(minY), decade(maxY)*10, chartTop+chartHeight, chartTop)
	text(b, left, chartTop-12, "start", c.title)
	for v := decade(minY); v <= decade(maxY)*10.1; v *= 10 {
		fmt.Fprintf(b, `<path d="M%d %.1fh%d" stroke="#ccc"/>`+"\n", left, y(v), chartWidth)
		text(b, left-6, int(y(v))+4, "end", label(v))
	}
	bottom := chartTop + chartHeight
	fmt.Fprintf(b, `<path d="M%d %dV%dh%d" fill="none" stroke="#333"/>`+"\n", left, chartTop, bottom, chartWidth)
	seen := map[float64]bool{}
	for i, name := range c.series {
		path := "M"
		for _, p := range c.points[name] {
			path += fmt.Sprintf(" %.1f %.1f", x(p.x), y(p.y))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(p.x), y(p.y), colour(i))
			if !seen[p.x] {
				seen[p.x] = true
				text(b, int(x(p.x)), bottom+18, "middle", label(p.x))
			}
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="%d"/>`+"\n", path, colour(i), stroke(i))
	}
	text(b, left+chartWidth/2, bottom+38, "middle", "messages in flight")
}

// scale maps from..to logarithmically to pixels.
func scale(from, to float64, first, last int) func(float64) float64 {
	return func(v float64) float64 {
		return float64(first) + float64(last-first)*math.Log(v/from)/math.Log(to/from)
	}
}

// decade is the power of ten at or below v.
func decade(v float64) float64 { return math.Pow(10, math.Floor(math.Log10(v))) }

func label(v float64) string {
	if v >= 1000 {
		return strconv.FormatFloat(v/1000, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func colour(i int) string { return colours[i%len(colours)] }

func stroke(i int) int {
	if i == 0 { // ours
		return 3
	}
	return 1
}

func text(b *strings.Builder, x, y int, anchor, s string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s" fill="#333">%s</text>`+"\n", x, y, anchor, s)
}
