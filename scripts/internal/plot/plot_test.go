// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func sample() *Chart {
	c := &Chart{Title: "Attach <fast> & clean", Note: "6.18, tracepoints", X: "devices", Y: "attach [s]", LogX: true}
	for _, p := range []Point{{"tool", 1, 0.2}, {"tool", 1000, 1.9}, {"other", 10, 5}} {
		c.Add(p)
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	want := sample()
	if err := want.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "",
		"no points":    `{"title":"a"}`,
		"no chart":     `[]`,
		"half a line":  `{"title":"a"}` + "\n{",
		"log of 0":     `{"log_x":true}` + "\n" + `{"series":"a","x":0,"y":1}`,
		"off the page": `{"title":"a"}` + "\n" + `{"series":"a","x":1e300,"y":1}`,
		"long line":    `{"title":"` + strings.Repeat("a", 1<<17) + `"}`,
		"many points":  `{"title":"a"}` + strings.Repeat("\n"+`{"series":"a","x":1,"y":1}`, maxPoints+1),
	} {
		if c, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v, no error", name, c)
		}
	}
}

func TestScale(t *testing.T) {
	for _, tt := range []struct {
		name     string
		values   []float64
		log      bool
		from, to float64
		ticks    int
	}{
		{"usual", []float64{3, 57}, false, 0, 60, 7},
		{"one value", []float64{0}, false, 0, 1, 6},
		{"negative", []float64{-5, 5}, false, -6, 6, 7},
		{"powers", []float64{1, 100000}, true, 0, 5, 6},
		{"one power", []float64{10}, true, 1, 2, 2},
		{"fractions", []float64{0.02, 0.3}, false, 0, 0.3, 7},
	} {
		x := scale(tt.values, 0, 100, tt.log)
		if diff := func(a, b float64) bool { return a-b > 1e-9 || b-a > 1e-9 }; diff(x.from, tt.from) || diff(x.to, tt.to) || len(x.ticks) != tt.ticks {
			t.Errorf("%s: %v to %v with ticks %v, want %v to %v with %d", tt.name, x.from, x.to, x.ticks, tt.from, tt.to, tt.ticks)
		}
		for _, v := range tt.values {
			if at := x.at(v); at < 0 || at > 100 {
				t.Errorf("%s: %v is at %v", tt.name, v, at)
			}
		}
	}
}

func TestLabel(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.3: "0.3", 1000: "1000", 20000: "20k", 2.5e6: "2.5M", 1e9: "1G"} {
		if got := label(v); got != want {
			t.Errorf("label(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("word ", 60)
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"short":    {"a b", []string{"a b"}},
		"two":      {long[:150], []string{strings.TrimSpace(long[:100]), strings.TrimSpace(long[100:150])}},
		"too long": {long, []string{strings.TrimSpace(long[:100]), long[100:199] + "…"}},
		"one word": {strings.Repeat("é", 120), []string{strings.Repeat("é", 100), strings.Repeat("é", 20)}},
	} {
		if got := wrap(tt.text); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestWriteSVG: what is drawn is XML whose text is that of the chart.
func TestWriteSVG(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	lines := 0
	for dec := xml.NewDecoder(&b); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case xml.StartElement:
			if token.Name.Local == "circle" {
				lines++
			}
		}
	}
	for _, want := range []string{"Attach <fast> & clean", "6.18, tracepoints", "devices", "attach [s]", "tool", "other", "1000"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in the picture", want)
		}
	}
	if lines != 3 {
		t.Errorf("%d dots, want 3", lines)
	}
}
