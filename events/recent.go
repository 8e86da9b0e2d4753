// SPDX-License-Identifier: Apache-2.0

package events

import "hash/maphash"

// recent remembers something of each of the keys that came last, up to a limit:
// the oldest one is forgotten for each new one beyond it. It is a map for keys that
// come and go without end. Those are put down one behind the other, so that a new
// key and the oldest one cost next to no misses of the cache however many are kept,
// and where neither K nor V has pointers the collector does not look at any of it.
type recent[K comparable, V any] struct {
	limit   int
	seed    maphash.Seed
	entries []recentEntry[K, V] // a ring once it is full
	next    int                 // the oldest one, when full
	// slots is an open-addressed table, at most half full, of 32 bits of a key's
	// hash, and the number of its entry + 1; 0: nothing is there.
	slots []uint64
	// oldest is the hash of the key that goes next, once the ring is full, and near what
	// its slot was: looked at when nobody waits for it, it is in the cache when it goes.
	oldest uint32
	near   uint64
}

type recentEntry[K comparable, V any] struct {
	key   K
	value V
}

// leastSlots is the size of a small table; all sizes are powers of two.
const leastSlots = 64

func (r *recent[K, V]) init(limit int) {
	*r = recent[K, V]{limit: limit, seed: maphash.MakeSeed(), slots: make([]uint64, leastSlots)}
}

// get is what is remembered of a key, until another one is put; nil: nothing.
func (r *recent[K, V]) get(key K) *V {
	if at := r.find(key, r.hash(key)); r.slots[at] != 0 {
		return &r.entry(at).value
	}
	return nil
}

// put is like get, but takes in a key that is not known, with the zero V.
func (r *recent[K, V]) put(key K) (value *V, known bool) {
	hash := r.hash(key)
	at := r.find(key, hash)
	if r.slots[at] != 0 {
		return &r.entry(at).value, true
	}
	n := len(r.entries)
	if n < r.limit {
		if 2*(n+1) > len(r.slots) {
			r.grow()
		}
		r.entries = append(r.entries, recentEntry[K, V]{key: key})
	} else {
		n = r.next
		if r.next++; r.next == r.limit {
			r.next = 0
		}
		r.forget(n)
		r.entries[n] = recentEntry[K, V]{key: key}
	}
	// What was grown or forgotten has moved others.
	r.slots[r.find(key, hash)] = uint64(hash)<<32 | uint64(n+1) //nolint:gosec // a count
	if len(r.entries) == r.limit {
		r.oldest = r.hash(r.entries[r.next].key)
		r.near = r.slots[r.home(r.oldest)]
	}
	return &r.entries[n].value, false
}

func (r *recent[K, V]) hash(key K) uint32 { return uint32(maphash.Comparable(r.seed, key)) } //nolint:gosec // as many bits as are kept

// home is where the search for a hash begins.
func (r *recent[K, V]) home(hash uint32) int { return int(hash) & (len(r.slots) - 1) }

// entry is what the slot at an index is of.
func (r *recent[K, V]) entry(at int) *recentEntry[K, V] {
	return &r.entries[uint32(r.slots[at])-1] //nolint:gosec // its lower half
}

// find is the index of a key's slot, or of the free one where it belongs.
func (r *recent[K, V]) find(key K, hash uint32) int {
	at := r.home(hash)
	for ; r.slots[at] != 0; at = (at + 1) & (len(r.slots) - 1) {
		if uint32(r.slots[at]>>32) == hash && r.entry(at).key == key {
			break
		}
	}
	return at
}

// grow doubles the table.
func (r *recent[K, V]) grow() {
	old := r.slots
	r.slots = make([]uint64, 2*len(old))
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		at := r.home(uint32(slot >> 32))
		for r.slots[at] != 0 {
			at = (at + 1) & (len(r.slots) - 1)
		}
		r.slots[at] = slot
	}
}

// forget frees the slot of the oldest entry, and closes the gap for the searches that
// would end there.
func (r *recent[K, V]) forget(n int) {
	mask := len(r.slots) - 1
	free := r.home(r.oldest)
	for uint32(r.slots[free]) != uint32(n+1) { //nolint:gosec // a count
		free = (free + 1) & mask
	}
	for at := (free + 1) & mask; r.slots[at] != 0; at = (at + 1) & mask {
		home := r.home(uint32(r.slots[at] >> 32))
		if (at-home)&mask >= (at-free)&mask { // it is sought from free or before it
			r.slots[free] = r.slots[at]
			free = at
		}
	}
	r.slots[free] = 0
}
