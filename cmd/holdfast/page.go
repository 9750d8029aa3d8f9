package main

import (
	"strings"
	"unicode/utf8"
)

// style is how a piece of text looks on a terminal.
type style string

const (
	plain style = ""
	bold  style = "\x1b[1m"
	dim   style = "\x1b[2m"
	good  style = "\x1b[32m"
	bad   style = "\x1b[31m"
	odd   style = "\x1b[33m" // worth a look

	reset = "\x1b[0m"
)

// span is text of one style.
type span struct {
	text  string
	style style
}

// page is text for a terminal: rows of spans. Rows of one table stand below each other.
type page struct {
	colour bool
	rows   [][]span
	table  int // first row of the table that is being written
}

// row adds a line whose spans follow each other.
func (p *page) row(spans ...span) {
	p.align()
	p.rows = append(p.rows, spans)
	p.table = len(p.rows)
}

// cells adds a line of a table.
func (p *page) cells(cells ...span) { p.rows = append(p.rows, cells) }

// head adds an empty line and the heads of a table.
func (p *page) head(names ...string) {
	p.row()
	cells := make([]span, len(names))
	for i, n := range names {
		cells[i] = span{n, dim}
	}
	p.cells(cells...)
}

// align ends a table: its cells become as wide as the widest of their column.
func (p *page) align() {
	var widths []int
	for _, cells := range p.rows[p.table:] {
		for i, c := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, cells := range p.rows[p.table:] {
		for i := range cells[:max(0, len(cells)-1)] {
			cells[i].text += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cells[i].text)+2)
		}
	}
	p.table = len(p.rows)
}

// lines are the rows as text, no wider than width if that is not 0. What comes from elsewhere, such as the
// name of a client, moves no cursor and changes no colour.
func (p *page) lines(width int) []string {
	p.align()
	lines := make([]string, 0, len(p.rows))
	for _, row := range p.rows {
		var b strings.Builder
		left := width
		for _, s := range row {
			text := []rune(strings.Map(printable, s.text))
			if width > 0 {
				text = text[:min(len(text), left)]
				left -= len(text)
			}
			if p.colour && s.style != plain && len(text) > 0 {
				b.WriteString(string(s.style) + string(text) + reset)
			} else {
				b.WriteString(string(text))
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

func printable(r rune) rune {
	if harmful(r) || r == '\n' || r == '\t' {
		return '?'
	}
	return r
}
