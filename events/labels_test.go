// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestLabels: what is kept of labels, and as which text.
func TestLabels(t *testing.T) {
	many, long := map[string]string{}, map[string]string{}
	for i := range 100 {
		many[fmt.Sprintf("k%02d", i)] = ""
		long[fmt.Sprintf("k%02d", i)] = strings.Repeat("v", 200)
	}
	for what, tt := range map[string]struct {
		from map[string]string
		want string
	}{
		"none":              {nil, ""},
		"in order":          {map[string]string{"tier": "front", "app": "web"}, "app=web,tier=front"},
		"a prefix":          {map[string]string{"app.kubernetes.io/name": "web_1.2-3"}, "app.kubernetes.io/name=web_1.2-3"},
		"an empty value":    {map[string]string{"canary": ""}, "canary="},
		"the kubelet's own": {map[string]string{"io.kubernetes.pod.name": "web", "app": "web"}, "app=web"},
		"no labels":         {map[string]string{"a,b": "c", "a=b": "c", "": "c", "x": "\x1b[31m", "y": "ü", "z": "a b"}, ""},
		"many":              {many, strings.Join(strings.Fields(keys(32)), ",")},
	} {
		got := NewLabels(tt.from)
		if string(got) != tt.want {
			t.Errorf("%s: %q, want %q", what, got, tt.want)
		}
		if again := NewLabels(got.Map()); again != got {
			t.Errorf("%s: %q became %q", what, got, again)
		}
		b, err := json.Marshal(got)
		var back Labels
		if err != nil || json.Unmarshal(b, &back) != nil || back != got {
			t.Errorf("%s: %s, %v, is read as %q", what, b, err, back)
		}
	}
	if got := NewLabels(long); len(got) > maxLabelsText || len(got) < maxLabelsText/2 {
		t.Errorf("%d bytes", len(got))
	}
	var l Labels
	if err := json.Unmarshal([]byte(`{"a":1}`), &l); err == nil || l != "" {
		t.Errorf("a number became %q", l)
	}
}

func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%02d= ", i)
	}
	return b.String()
}
