// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// schema is as much of JSON Schema as ours needs.
type schema struct {
	Schema               string            `json:"$schema"`
	ID                   string            `json:"$id"`
	Title                string            `json:"title"`
	Description          string            `json:"description"`
	Ref                  string            `json:"$ref"`
	Defs                 map[string]schema `json:"$defs"`
	Type                 string            `json:"type"`
	Format               string            `json:"format"`
	Pattern              string            `json:"pattern"`
	Enum                 []string          `json:"enum"`
	MinLength            int               `json:"minLength"`
	Minimum              *float64          `json:"minimum"`
	Maximum              *float64          `json:"maximum"`
	Required             []string          `json:"required"`
	Properties           map[string]schema `json:"properties"`
	PatternProperties    map[string]schema `json:"patternProperties"`
	AdditionalProperties *bool             `json:"additionalProperties"`
	Items                *schema           `json:"items"`
}

// readSchema fails on keywords that the checker does not know.
func readSchema(t *testing.T) *schema {
	t.Helper()
	var s schema
	dec := json.NewDecoder(bytes.NewReader(Schema))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// check returns what is wrong with v.
func (root *schema) check(s *schema, path string, v any) []string {
	if s.Ref != "" {
		def, ok := root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
		if !ok {
			return []string{path + ": no " + s.Ref}
		}
		return root.check(&def, path, v)
	}
	if s.Enum != nil {
		if text, ok := v.(string); !ok || !slices.Contains(s.Enum, text) {
			return []string{fmt.Sprintf("%s: %v is none of %q", path, v, s.Enum)}
		}
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		return root.checkObject(s, path, v)
	case []any:
		wrong := wantType(s, path, "array")
		for i, item := range v {
			if s.Items != nil {
				wrong = append(wrong, root.check(s.Items, fmt.Sprintf("%s[%d]", path, i), item)...)
			}
		}
		return wrong
	case string:
		return append(wantType(s, path, "string"), checkString(s, path, v)...)
	case float64:
		return append(wantType(s, path, "number"), checkNumber(s, path, v)...)
	case bool:
		return wantType(s, path, "boolean")
	}
	return []string{fmt.Sprintf("%s: %v", path, v)} // null
}

func wantType(s *schema, path, got string) []string {
	if s.Type == got || s.Type == "integer" && got == "number" {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s, want %s", path, got, s.Type)}
}

func (root *schema) checkObject(s *schema, path string, v map[string]any) []string {
	wrong := wantType(s, path, "object")
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			wrong = append(wrong, path+"."+name+" is missing")
		}
	}
	for name, value := range v {
		p, ok := s.Properties[name]
		for pattern, of := range s.PatternProperties {
			if !ok && regexp.MustCompile(pattern).MatchString(name) {
				p, ok = of, true
			}
		}
		if !ok {
			wrong = append(wrong, path+"."+name+" is not in the schema")
			continue
		}
		wrong = append(wrong, root.check(&p, path+"."+name, value)...)
	}
	return wrong
}

func checkString(s *schema, path, v string) (wrong []string) {
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
		wrong = append(wrong, fmt.Sprintf("%s: %q does not match %s", path, v, s.Pattern))
	}
	if utf8.RuneCountInString(v) < s.MinLength {
		wrong = append(wrong, fmt.Sprintf("%s: %q is too short", path, v))
	}
	if s.Format == "date-time" {
		if at, err := time.Parse(time.RFC3339Nano, v); err != nil || at.Location() != time.UTC {
			wrong = append(wrong, fmt.Sprintf("%s: %q is no time in UTC", path, v))
		}
	}
	return wrong
}

func checkNumber(s *schema, path string, v float64) (wrong []string) {
	if s.Type == "integer" && v != math.Trunc(v) {
		wrong = append(wrong, fmt.Sprintf("%s: %v is no integer", path, v))
	}
	if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
		wrong = append(wrong, fmt.Sprintf("%s: %v is out of range", path, v))
	}
	return wrong
}

// checkSchema renders traversals as JSON and holds them against the schema.
func checkSchema(t *testing.T, traversals ...*Traversal) {
	t.Helper()
	s := readSchema(t)
	for i, tr := range traversals {
		var b bytes.Buffer
		if err := (&JSONRenderer{W: &b}).Render(tr); err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(b.Bytes(), &v); err != nil {
			t.Fatalf("traversal %d: %v\n%s", i, err, b.Bytes())
		}
		for _, wrong := range s.check(s, "", v) {
			t.Errorf("traversal %d: %s", i, wrong)
		}
	}
}

func TestJSONFollowsSchema(t *testing.T) { checkSchema(t, examples()...) }

// TestCapturesFollowSchema stitches what kernels reported, and holds all of it
// against the schema.
func TestCapturesFollowSchema(t *testing.T) {
	files, err := filepath.Glob("testdata/captures/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures: %v", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ReadCapture(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		s := NewStitcher(Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: c.Header.HasFunctions}, func(tr *Traversal) {
			checkSchema(t, tr)
		})
		for i := range c.Events {
			s.Add(&c.Events[i])
		}
		s.Flush()
	}
}

// TestSchemaCheckerFindsFaults makes sure that the checker can fail.
func TestSchemaCheckerFindsFaults(t *testing.T) {
	s := readSchema(t)
	for name, change := range map[string]func(map[string]any){
		"null list":       func(v map[string]any) { v["nat"] = nil },
		"missing field":   func(v map[string]any) { delete(v, "caused_by") },
		"unknown field":   func(v map[string]any) { v["new"] = 1.0 },
		"unknown verdict": func(v map[string]any) { v["verdict"] = "lost" },
		"local time":      func(v map[string]any) { v["time"] = "2026-01-02T03:04:05+01:00" },
		"bad port":        func(v map[string]any) { v["src"].(map[string]any)["port"] = 65536.0 },
		"half a byte":     func(v map[string]any) { v["length"] = 0.5 },
		"sentence":        func(v map[string]any) { v["reason"] = "No Destination" },
		"deep inside":     func(v map[string]any) { v["visits"].([]any)[0].(map[string]any)["hooks"] = "none" },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := (&JSONRenderer{W: &b}).Render(examples()[0]); err != nil {
				t.Fatal(err)
			}
			v := map[string]any{}
			if err := json.Unmarshal(b.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			change(v)
			if len(s.check(s, "", v)) == 0 {
				t.Error("not found")
			}
		})
	}
}

// TestSchemaNamesEveryField compares the schema with the Go types, so that a
// field added to one of them cannot be forgotten in the other.
func TestSchemaNamesEveryField(t *testing.T) {
	s := readSchema(t)
	for name, c := range map[string]struct {
		s schema
		v any
	}{
		"traversal": {*s, Traversal{}}, "endpoint": {s.Defs["endpoint"], Endpoint{}}, "visit": {s.Defs["visit"], Visit{}},
		"nat": {s.Defs["nat"], NAT{}}, "hook": {*s.Defs["visit"].Properties["hooks"].Items, HookVisit{}},
		"conntrack": {s.Properties["conntrack"], CTSummary{}}, "service": {s.Defs["service"], ServiceFacts{}},
		"endpoints": {s.Defs["endpoints"], ServiceEndpoints{}}, "server": {s.Defs["server"], ServiceEndpoint{}},
		"rule": {s.Defs["rule"], RuleFacts{}},
	} {
		typ := reflect.TypeOf(c.v)
		written := 0
		for i := range typ.NumField() {
			tag, option, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if tag == "-" {
				continue
			}
			written++
			if _, ok := c.s.Properties[tag]; !ok {
				t.Errorf("%s: the schema has no %s", name, tag)
			}
			if optional := option == "omitempty"; optional == slices.Contains(c.s.Required, tag) {
				t.Errorf("%s.%s: omitempty is %t in Go, but the schema says otherwise", name, tag, optional)
			}
		}
		if written != len(c.s.Properties) {
			t.Errorf("%s: %d fields in Go, %d in the schema", name, written, len(c.s.Properties))
		}
	}
}
