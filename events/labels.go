// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// What is kept of a pod's labels.
const (
	maxLabels     = 32
	maxLabelsText = 2048 // bytes of all of them
)

// Labels are labels of a pod as kubectl writes them: "app=web,tier=front", by key.
// NewLabels makes them.
type Labels string

// NewLabels takes in labels as far as there is room, and leaves out what cannot be
// one, and those of the kubelet for itself, which repeat the pod's name.
func NewLabels(from map[string]string) Labels {
	if len(from) == 0 {
		return ""
	}
	var b strings.Builder
	n := 0
	for _, key := range slices.Sorted(maps.Keys(from)) {
		value := from[key]
		size := len(key) + len(value) + 2
		if n == maxLabels || b.Len()+size > maxLabelsText {
			break
		}
		if key == "" || !labelText(key) || !labelText(value) || strings.HasPrefix(key, "io.kubernetes.") {
			continue
		}
		if n++; n > 1 {
			b.WriteByte(',')
		}
		b.WriteString(key + "=" + value)
	}
	return Labels(b.String())
}

// labelText says whether s has only what Kubernetes allows in keys and values.
func labelText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r))
	})
}

// Map has the labels by key.
func (l Labels) Map() map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(string(l), ",") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			m[key] = value
		}
	}
	return m
}

// MarshalJSON writes an object.
func (l Labels) MarshalJSON() ([]byte, error) { return json.Marshal(l.Map()) }

// UnmarshalJSON reads an object, as NewLabels takes it.
func (l *Labels) UnmarshalJSON(b []byte) error {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*l = NewLabels(m)
	return nil
}
