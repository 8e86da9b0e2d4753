// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// plainJSON is a traversal as encoding/json writes it.
func plainJSON(t *testing.T, of *Traversal) string {
	t.Helper()
	c := *of
	c.Time = c.Time.UTC()
	c.DataLink, c.NAT, c.Causes = list(c.DataLink), list(c.NAT), list(c.Causes)
	c.Visits = make([]Visit, len(of.Visits))
	for i, v := range of.Visits {
		v.Devices, v.Hooks = list(v.Devices), list(v.Hooks)
		c.Visits[i] = v
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&c); err != nil {
		t.Fatal(err)
	}
	return string(SafeJSON(b.Bytes()))
}

// oddTexts are what encoding/json or SafeJSON escapes, and what they do not.
var oddTexts = []string{
	"", "plain", `"quoted" \ and <b>&`, "a\b\f\n\r\tb\x00\x1f\x7f", "not \xff\xc3 UTF-8 \xf0\x9f", "→ é \u0085 \u2028\u2029 \u202e \ufffd 😀 \U000e0001 \u00ad",
}

// fill sets each exported field below v to something else than its zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1767366245, 120000000+int64(*n))))
	case v.Type() == reflect.TypeFor[Labels]():
		v.SetString("a=b,c/d=,e=f")
	case v.Kind() == reflect.String:
		v.SetString(oddTexts[1+*n%(len(oddTexts)-1)])
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Float64:
		v.SetFloat(float64(*n) / 2)
	case v.CanUint():
		v.SetUint(uint64(*n) % 256) //nolint:gosec // a few hundred
	case v.CanInt():
		v.SetInt(-int64(*n))
	case v.Type() == reflect.TypeFor[map[string]uint64]():
		v.Set(reflect.ValueOf(map[string]uint64{"ring": uint64(*n), "decode": 1, "shed": 2})) //nolint:gosec // a few hundred
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), n)
			}
		}
	}
}

// TestJSONLine: what is written is what encoding/json writes, field by field.
func TestJSONLine(t *testing.T) {
	full := &Traversal{}
	n := 0
	fill(reflect.ValueOf(full).Elem(), &n)
	full.In, full.Out, full.Packets, full.Parts = nil, nil, nil, nil
	cases := append(examples(), &Traversal{}, full)
	for _, s := range oddTexts {
		cases = append(cases, &Traversal{ID: s, Notes: []string{s, s + s}, Visits: []Visit{{Name: s, Labels: Labels(s)}}, NAT: []NAT{{From: s}}, LostInRun: map[string]uint64{s: 1, "ring": 2}})
	}
	for _, c := range cases {
		var b strings.Builder
		if err := (&JSONRenderer{W: &b}).Render(c); err != nil {
			t.Fatal(err)
		}
		if want := plainJSON(t, c); b.String() != want {
			t.Errorf("written:\n%swant:\n%s", b.String(), want)
		}
	}
}

// TestJSONNoTime: there is no text for a year like that, and nothing is written.
func TestJSONNoTime(t *testing.T) {
	var b strings.Builder
	if err := (&JSONRenderer{W: &b}).Render(&Traversal{Time: time.Unix(1<<50, 0)}); err == nil || b.Len() > 0 {
		t.Errorf("%v, %q", err, b.String())
	}
}
