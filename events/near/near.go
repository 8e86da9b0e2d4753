// SPDX-License-Identifier: Apache-2.0

// Package near finds what may have been meant by a name that does not exist.
package near

import (
	"slices"
	"strings"
)

// Names returns up to three of the known names that may have been meant by s:
// those with the same last part in another namespace, and those that differ by
// little.
func Names(s string, known []string) []string {
	type candidate struct {
		name string
		far  int
	}
	var found []candidate
	for _, k := range known {
		far := max(1, min(len(s), len(k))/3)
		d := 1
		if last(s) != last(k) {
			if max(len(s)-len(k), len(k)-len(s)) > far {
				continue
			}
			d = distance(s, k)
		} else if s == k {
			d = 0
		}
		if d <= far {
			found = append(found, candidate{k, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range found {
		if len(out) < 3 && !slices.Contains(out, c.name) {
			out = append(out, c.name)
		}
	}
	return out
}

// last is the part of a name behind the namespace.
func last(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// distance counts the characters to insert, delete, replace or swap with
// their neighbour to make b of a. Names longer than any that Kubernetes allows
// are not worth the time.
func distance(a, b string) int {
	const longest = 512
	if len(a) > longest || len(b) > longest {
		return longest
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	next := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(next[j-1]+1, row[j]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
