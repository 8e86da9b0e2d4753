// SPDX-License-Identifier: Apache-2.0

// Package plot draws line charts as SVG, from points that are JSON lines.
package plot

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// A Chart is one picture. Its axes say their units in brackets.
type Chart struct {
	Title string `json:"title"`
	Note  string `json:"note,omitempty"` // a line below the title
	X     string `json:"x_label"`
	Y     string `json:"y_label"`
	// LogX spreads the x axis by powers of ten. No x is 0 or less then.
	LogX bool `json:"log_x,omitempty"`

	Series []Series `json:"-"`
}

// A Series is one line of a chart, in the order of its points.
type Series struct {
	Name   string
	Points []Point
}

// A Point is one measurement of a series.
type Point struct {
	Series string  `json:"series"`
	X      float64 `json:"x"`
	Y      float64 `json:"y"`
}

// maxPoints bounds what a file may hold.
const maxPoints = 100_000

// Add appends a point to its series.
func (c *Chart) Add(p Point) {
	i := slices.IndexFunc(c.Series, func(s Series) bool { return s.Name == p.Series })
	if i < 0 {
		i = len(c.Series)
		c.Series = append(c.Series, Series{Name: p.Series})
	}
	c.Series[i].Points = append(c.Series[i].Points, p)
}

// WriteJSON writes the chart, then its points, a line each.
func (c *Chart) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	err := enc.Encode(c)
	for _, s := range c.Series {
		for _, p := range s.Points {
			err = errors.Join(err, enc.Encode(p))
		}
	}
	return err
}

// Read reads what WriteJSON wrote. An error names the line.
func Read(r io.Reader) (*Chart, error) {
	c := &Chart{}
	in := bufio.NewScanner(r)
	line, points := 0, 0
	for in.Scan() {
		line++
		if line == 1 {
			if err := json.Unmarshal(in.Bytes(), c); err != nil {
				return nil, fmt.Errorf("line 1: want a chart: %w", err)
			}
			continue
		}
		var p Point
		if err := json.Unmarshal(in.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("line %d: want a point: %w", line, err)
		}
		if points++; points > maxPoints {
			return nil, fmt.Errorf("line %d: more than %d points", line, maxPoints)
		}
		c.Add(p)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", line+1, err)
	}
	return c, c.check()
}

func (c *Chart) check() error {
	if len(c.Series) == 0 {
		return errors.New("a chart without points")
	}
	for _, s := range c.Series {
		for _, p := range s.Points {
			if math.Abs(p.X) > 1e15 || math.Abs(p.Y) > 1e15 {
				return fmt.Errorf("series %q: point %g, %g is off any chart", s.Name, p.X, p.Y)
			}
			if c.LogX && p.X < 1e-15 {
				return fmt.Errorf("series %q: x is %g on an axis of powers of ten", s.Name, p.X)
			}
		}
	}
	return nil
}
