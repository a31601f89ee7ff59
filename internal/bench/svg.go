package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The drawing, in pixels: the plot lies between the margins.
const (
	width, height            = 720, 440
	left, right, top, bottom = 70, 20, 40, 60
)

// An axis is logarithmic, from one power of ten to another.
type axis struct {
	from, to float64 // exponents
	at, size float64 // pixels; size is negative when values grow upwards
}

func newAxis(smallest, largest, at, size float64) axis {
	a := axis{math.Floor(math.Log10(smallest)), math.Ceil(math.Log10(largest)), at, size}
	if a.to == a.from {
		a.to++
	}
	return a
}

func (a axis) place(v float64) float64 {
	return a.at + a.size*(math.Log10(v)-a.from)/(a.to-a.from)
}

// A series is one line of the drawing.
type series struct {
	name, colour string
	values       []float64
}

// drawGrowth draws the costs over the number of packages, both axes logarithmic.
func drawGrowth(points []point) []byte {
	xs := make([]float64, len(points))
	all := []series{{name: "cold, wall", colour: "#1b6ca8"}, {name: "cold, CPU", colour: "#7fb2d6"}, {name: "cached, wall", colour: "#b8442c"}, {name: "cached, CPU", colour: "#e0a090"}}
	smallest, largest := math.Inf(1), 0.0
	for i, p := range points {
		xs[i] = float64(p.n)
		for s, v := range []float64{p.cold.wall.Seconds(), p.cold.cpu.Seconds(), p.cached.wall.Seconds(), p.cached.cpu.Seconds()} {
			v = max(v, 1e-3) // a logarithm needs something
			all[s].values = append(all[s].values, v)
			smallest, largest = min(smallest, v), max(largest, v)
		}
	}
	x := newAxis(xs[0], xs[len(xs)-1], left, width-left-right)
	y := newAxis(smallest, largest, height-bottom, -(height - top - bottom))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text(&b, width/2, 22, "middle", "Seconds for tally build by number of packages")
	text(&b, (left+width-right)/2, height-14, "middle", "packages")
	grid(&b, x, y)
	for i, s := range all {
		line(&b, xs, s, x, y)
		ly := float64(top + 16 + 18*i)
		fmt.Fprintf(&b, `<path d="M%d %.1fh24" stroke="%s" stroke-width="2"/>`+"\n", left+14, ly-4, s.colour)
		text(&b, left+44, ly, "start", s.name)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// grid draws the axes with a line and a label at 1, 2 and 5 times each power of ten.
func grid(b *strings.Builder, x, y axis) {
	for e := y.from; e <= y.to; e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v <= math.Pow(10, y.to)*1.001 {
				fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd"/>`+"\n", left, y.place(v), width-right)
				text(b, left-8, y.place(v)+4, "end", fmt.Sprintf("%g s", v))
			}
		}
	}
	for e := x.from; e <= x.to; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(b, `<path d="M%.1f %dV%d" stroke="#ddd"/>`+"\n", x.place(v), top, height-bottom)
		text(b, x.place(v), height-bottom+18, "middle", fmt.Sprintf("%g", v))
	}
}

func line(b *strings.Builder, xs []float64, s series, x, y axis) {
	var path strings.Builder
	for i, v := range s.values {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], x.place(xs[i]), y.place(v))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x.place(xs[i]), y.place(v), s.colour)
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), s.colour)
}

func text(b *strings.Builder, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}
