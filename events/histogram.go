// SPDX-License-Identifier: Apache-2.0

package events

import "math/bits"

// Each power of two of ns is cut into 16 steps, so that a quantile is at most
// 1/16 too large. Beyond 2^44 ns, which is some hours, all is one.
const (
	histogramSteps   = 16
	histogramBits    = 44
	histogramBuckets = (histogramBits - 3) * histogramSteps
)

// histogram counts durations in ns. Its size does not grow with their number.
type histogram struct {
	buckets [histogramBuckets]uint32
	count   uint64
	max     uint64
}

// bucketOf is the bucket of a duration: the first 16 hold one value each.
func bucketOf(ns uint64) int {
	ns = min(ns, 1<<histogramBits-1)
	if ns < histogramSteps {
		return int(ns) //nolint:gosec // below 16
	}
	shift := bits.Len64(ns) - 5
	return shift*histogramSteps + int(ns>>shift) //nolint:gosec // below 32
}

// bucketEnd is the largest duration in a bucket.
func bucketEnd(bucket int) uint64 {
	if bucket < 2*histogramSteps {
		return uint64(bucket) //nolint:gosec // not negative
	}
	shift := bucket/histogramSteps - 1
	return uint64(bucket%histogramSteps+histogramSteps+1)<<shift - 1 //nolint:gosec // not negative
}

func (h *histogram) add(ns uint64) {
	h.buckets[bucketOf(ns)]++
	h.count++
	h.max = max(h.max, ns)
}

// quantile is the duration that q in 100 do not exceed; 0 if there are none.
func (h *histogram) quantile(q uint64) uint64 {
	rank := (h.count*q + 99) / 100
	seen := uint64(0)
	for i, n := range h.buckets {
		if seen += uint64(n); seen >= rank && n > 0 {
			if i == histogramBuckets-1 {
				break
			}
			return min(bucketEnd(i), h.max)
		}
	}
	return h.max
}
