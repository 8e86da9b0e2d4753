// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/near"
)

// last is the part of a name behind the namespace.
func last(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// didYouMean is the end of an error message about s.
func didYouMean(s string, known []string) string {
	names := near.Names(s, known)
	if len(names) == 0 {
		return ""
	}
	for i, n := range names {
		names[i] = events.Safe(n)
	}
	return "; did you mean " + strings.Join(names, ", ") + "?"
}

// quoted is a word of the user's for an error message.
func quoted(s string) string { return `"` + events.Safe(s) + `"` }
