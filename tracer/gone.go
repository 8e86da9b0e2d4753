// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"maps"
	"slices"
	"time"
)

// What has vanished is remembered for a while, as packets of it are still told of; but
// not more of it than keeps a node that makes pods without end from filling memory.
const (
	keepGone = 5 * time.Minute
	maxGone  = 8192
)

// gone has since when something is not there any more.
type gone[K comparable] map[K]time.Time

// next is what is to be remembered of the keys that are missing now; those that went
// first are left out.
func (g gone[K]) next(missing []K, now time.Time) gone[K] {
	out := gone[K]{}
	for _, key := range missing {
		since, known := g[key]
		if !known {
			since = now
		}
		if now.Sub(since) < keepGone {
			out[key] = since
		}
	}
	if more := len(out) - maxGone; more > 0 {
		keys := slices.SortedFunc(maps.Keys(out), func(a, b K) int { return out[a].Compare(out[b]) })
		for _, key := range keys[:more] {
			delete(out, key)
		}
	}
	return out
}
