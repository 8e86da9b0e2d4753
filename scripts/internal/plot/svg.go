// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// The picture, and the field of the lines in it, in pixels.
const (
	width, height            = 800, 500
	left, right, top, bottom = 90, 770, 112, 430
)

// colours are told apart by people who see red and green alike.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}

// An axis maps values to pixels.
type axis struct {
	from, to float64 // values, or their logarithms
	a, b     float64 // pixels
	log      bool
	ticks    []float64 // values
}

// scale makes an axis that holds the values. One that is not logarithmic begins
// at 0, or a difference would look larger than it is.
func scale(values []float64, a, b float64, log bool) axis {
	x := axis{a: a, b: b, log: log}
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	if log {
		x.from, x.to = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
		if x.from == x.to {
			x.to++
		}
		for e := x.from; e <= x.to; e++ {
			x.ticks = append(x.ticks, math.Pow(10, e))
		}
		return x
	}
	low = min(low, 0)
	if high <= low {
		high = low + 1
	}
	step := niceStep((high - low) / 6)
	x.from, x.to = math.Floor(low/step)*step, math.Ceil(high/step-1e-9)*step
	for i := 0.0; x.from+i*step <= x.to+step/2; i++ {
		x.ticks = append(x.ticks, x.from+i*step)
	}
	return x
}

// niceStep is the smallest of 1, 2, 5, 10, … times a power of ten that is not
// below v.
func niceStep(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*unit*(1+1e-9) {
			return m * unit
		}
	}
	return 10 * unit
}

func (x axis) at(v float64) float64 {
	if x.log {
		v = math.Log10(v)
	}
	return x.a + (v-x.from)/(x.to-x.from)*(x.b-x.a)
}

// label is a value as people write it.
func label(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e9:
		return fmt.Sprintf("%.4gG", v/1e9)
	case a >= 1e6:
		return fmt.Sprintf("%.4gM", v/1e6)
	case a >= 1e4:
		return fmt.Sprintf("%.4gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}

// WriteSVG draws the chart.
func (c *Chart) WriteSVG(w io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	var xs, ys []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y)
		}
	}
	x, y := scale(xs, left, right, c.LogX), scale(ys, bottom, top, false)
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="DejaVu Sans, Verdana, sans-serif" font-size="14" fill="#222">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	c.text(&out)
	grid(&out, x, y)
	for i, s := range c.Series {
		s.draw(&out, x, y, colours[i%len(colours)])
	}
	c.legend(&out)
	out.WriteString("</svg>\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// text writes the title, the note and what the axes are.
func (c *Chart) text(out *strings.Builder) {
	fmt.Fprintf(out, `<text x="%d" y="28" font-size="18" font-weight="bold">%s</text>`+"\n", 20, html.EscapeString(c.Title))
	for i, line := range wrap(c.Note) {
		fmt.Fprintf(out, `<text x="%d" y="%d" font-size="13" fill="#555">%s</text>`+"\n", 20, 48+18*i, html.EscapeString(line))
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+right)/2, bottom+52, html.EscapeString(c.X))
	fmt.Fprintf(out, `<text transform="translate(24 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+bottom)/2, html.EscapeString(c.Y))
}

// wrap makes at most two lines of a note, the first as long as the picture is
// wide; what is too long for both is cut.
func wrap(text string) []string {
	const most = 100 // letters of 13 pixels
	runes := []rune(text)
	if len(runes) <= most {
		return []string{text}
	}
	at := most
	for at > 0 && runes[at] != ' ' {
		at--
	}
	if at == 0 {
		at = most
	}
	rest := []rune(strings.TrimSpace(string(runes[at:])))
	if len(rest) > most {
		rest = append(rest[:most-1], '…')
	}
	return []string{string(runes[:at]), string(rest)}
}

func grid(out *strings.Builder, x, y axis) {
	for _, v := range y.ticks {
		fmt.Fprintf(out, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y.at(v), right, left-8, y.at(v)+5, label(v))
	}
	for _, v := range x.ticks {
		fmt.Fprintf(out, `<path d="M%.1f %dV%d" stroke="#eee"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x.at(v), top, bottom, x.at(v), bottom+22, label(v))
	}
	fmt.Fprintf(out, `<path d="M%d %dV%dH%d" fill="none" stroke="#222"/>`+"\n", left, top, bottom, right)
}

// manyPoints is from how many on a line has no dots.
const manyPoints = 60

func (s Series) draw(out *strings.Builder, x, y axis, colour string) {
	var path strings.Builder
	for i, p := range s.Points {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], x.at(p.X), y.at(p.Y))
	}
	fmt.Fprintf(out, `<path d="%s" fill="none" stroke="%s" stroke-width="2.5" stroke-linejoin="round"/>`+"\n", path.String(), colour)
	if len(s.Points) > manyPoints {
		return
	}
	for _, p := range s.Points {
		fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", x.at(p.X), y.at(p.Y), colour)
	}
}

// legend names the series in one row. The width of a letter is a guess.
func (c *Chart) legend(out *strings.Builder) {
	x := 20.0
	for i, s := range c.Series {
		fmt.Fprintf(out, `<path d="M%.0f 90h22" stroke="%s" stroke-width="4"/><text x="%.0f" y="95">%s</text>`+"\n",
			x, colours[i%len(colours)], x+28, html.EscapeString(s.Name))
		x += 28 + 8.5*float64(len([]rune(s.Name))) + 20
	}
}
