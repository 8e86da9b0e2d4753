// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// member reads a member of a set.
func member(s string) (m Member) {
	if err := m.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
	return m
}

func TestMemberText(t *testing.T) {
	for _, s := range []string{"10.0.0.1", "10.0.0.1:80", "2001:db8::1", "[2001:db8::1]:65535"} {
		if got, err := member(s).MarshalText(); err != nil || string(got) != s {
			t.Errorf("%s became %s, %v", s, got, err)
		}
	}
	if member("::ffff:10.0.0.1") != member("10.0.0.1") {
		t.Error("a mapped address is another one")
	}
	for _, s := range []string{"", "x", "10.0.0.0/8", "10.0.0.1:0", "10.0.0.1:65536", "fe80::1%eth0", "[fe80::1%eth0]:80", ":80"} {
		if err := new(Member).UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	if _, err := json.Marshal(Member{}); err == nil {
		t.Error("no address was written")
	}
}

const second = uint64(1e9)

// at is a change at a moment, in s, that took one more.
func at(s uint64, add, del string) *SetChange {
	c := &SetChange{Set: "x", From: s * second, By: (s + 1) * second}
	for _, f := range strings.Fields(add) {
		c.Add = append(c.Add, member(f))
	}
	for _, f := range strings.Fields(del) {
		c.Del = append(c.Del, member(f))
	}
	return c
}

func whole(c *SetChange) *SetChange {
	c.Whole = true
	return c
}

func untold(s uint64) *SetChange { return &SetChange{Set: "x", From: s * second, Untold: true} }

// TestSetHistory: what is known of two ends in each of 20 seconds: "-" nothing, or
// which of a and b are members.
func TestSetHistory(t *testing.T) {
	a, b := "10.0.0.1", "10.0.0.2:80"
	first := &SetChange{Set: "x", Whole: true, Add: []Member{member(a)}}
	other := &SetChange{Set: "y", Whole: true, Add: []Member{member(b)}}
	for _, tt := range []struct {
		name    string
		changes []*SetChange
		want    string
	}{
		{"nothing", nil, "--------------------"},
		{"another set", []*SetChange{other}, "--------------------"},
		{"from the beginning", []*SetChange{first}, "aaaaaaaaaaaaaaaaaaaa"},
		{"from later", []*SetChange{whole(at(3, a+" "+b, ""))}, "-----+++++++++++++++"},
		{"one more", []*SetChange{first, at(5, b, "")}, "aaaaa--+++++++++++++"},
		{"another", []*SetChange{first, at(5, b, a), at(10, a, b)}, "aaaaa--bbb--aaaaaaaa"},
		{"none", []*SetChange{first, at(5, "", a)}, "aaaaa--0000000000000"},
		{"whole", []*SetChange{first, whole(at(5, b, ""))}, "aaaaa--bbbbbbbbbbbbb"},
		{"in two lines", []*SetChange{first, at(5, b, ""), at(5, "", a)}, "aaaaa--bbbbbbbbbbbbb"},
		{"soon after each other", []*SetChange{first, at(5, b, ""), at(6, "", a)}, "aaaaa---bbbbbbbbbbbb"},
		{"untold", []*SetChange{first, untold(5)}, "aaaaa---------------"},
		{"untold and told", []*SetChange{first, untold(5), at(5, b, ""), at(9, "", b)}, "aaaaa--++--aaaaaaaaa"},
		{"untold for long", []*SetChange{first, untold(5), at(9, b, "")}, "aaaaa------+++++++++"},
		{"a part tells again", []*SetChange{first, at(5, b, ""), whole(at(5, a+" "+b, "")), at(9, "", b)}, "aaaaa--++--aaaaaaaaa"},
		{"a part tells again what is untold", []*SetChange{first, untold(5), first, untold(5), at(9, b, "")}, "aaaaa------+++++++++"},
		{"a part is missing", []*SetChange{first, whole(at(8, b, ""))}, "aaaaaaaa--bbbbbbbbbb"},
		{"untold from before", []*SetChange{first, at(5, b, ""), untold(0)}, "--------------------"},
		{"only untold", []*SetChange{untold(0), at(3, b, ""), whole(at(9, b, ""))}, "-----------bbbbbbbbb"},
		{"does not begin whole", []*SetChange{at(3, a, "")}, "--------------------"},
		{"who was none left", []*SetChange{first, at(5, "", b), at(9, a, ""), whole(at(11, b, ""))}, "-------------bbbbbbb"},
		{"out of order", []*SetChange{first, at(9, b, ""), at(5, "", b)}, "--------------------"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h SetHistory
			for _, c := range tt.changes {
				h.Put(c)
			}
			if got := known(&h, a, b); got != tt.want {
				t.Errorf("%s, want\n%s", got, tt.want)
			}
			h.Doubt()
			h.Put(first)
			if got := known(&h, a, b); strings.Trim(got, "-") != "" {
				t.Errorf("in doubt %s", got)
			}
		})
	}
}

// known asks at the beginning of each second.
func known(h *SetHistory, a, b string) string {
	var out strings.Builder
	for s := range uint64(20) {
		then, ok := h.At("x", s*second, s*second)
		hasA, hasB := ok && then.Has(netip.AddrPort(member(a))), ok && then.Has(netip.AddrPort(member(b)))
		switch {
		case !ok:
			out.WriteByte('-')
		case hasA && hasB:
			out.WriteByte('+')
		case hasA:
			out.WriteByte('a')
		case hasB:
			out.WriteByte('b')
		default:
			out.WriteByte('0')
		}
	}
	return out.String()
}

// TestSetHistoryAt: a time is asked for as a whole.
func TestSetHistoryAt(t *testing.T) {
	var h SetHistory
	h.Put(&SetChange{Set: "x", Whole: true, Add: []Member{member("10.0.0.1")}})
	h.Put(at(5, "10.0.0.2", ""))
	for _, tt := range []struct {
		lo, hi uint64
		want   bool
	}{
		{0, 4 * second, true}, {0, 4*second + 1, false}, {4 * second, 7 * second, false}, {7*second - 1, 7 * second, false},
		{7 * second, 1<<64 - 1, true}, {3, 2, false}, {5*second - 1, 1<<64 - 1, false},
	} {
		if _, ok := h.At("x", tt.lo, tt.hi); ok != tt.want {
			t.Errorf("from %d to %d: %v", tt.lo, tt.hi, ok)
		}
	}
	then, _ := h.At("x", 8*second, 8*second)
	if !then.Has(netip.MustParseAddrPort("[::ffff:10.0.0.2]:0")) || then.Has(netip.MustParseAddrPort("10.0.0.2:80")) || then.Has(netip.AddrPort{}) {
		t.Error("not what was told")
	}
}

// TestSetHistoryBounds: what is too much is untold, and takes neither memory nor
// time.
func TestSetHistoryBounds(t *testing.T) {
	many := func(n int) (out []Member) {
		for i := range n {
			out = append(out, Member(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 0)))
		}
		return out
	}
	knows := func(h *SetHistory, set string) bool {
		_, ok := h.At(set, 1<<62, 1<<62)
		return ok
	}
	var h SetHistory
	h.Put(&SetChange{Set: "x", Whole: true, Add: many(MaxSetMembers)})
	if !knows(&h, "x") {
		t.Error("as many as are told are not known")
	}
	h.Put(&SetChange{Set: "x", Add: many(MaxSetMembers + 1)[MaxSetMembers:]})
	if knows(&h, "x") {
		t.Error("more than are told are known")
	}
	h = SetHistory{}
	for i := range uint64(maxSetSpans + 10) {
		h.Put(&SetChange{Set: "x", From: i, By: i, Whole: i == 0})
	}
	if knows(&h, "x") || h.spans > maxSetSpans+10 {
		t.Errorf("%d changes are known", h.spans)
	}
	h = SetHistory{}
	h.Put(&SetChange{Set: "x", Whole: true, Add: many(MaxSetMembers)})
	for i := range uint64(1e5) {
		h.Put(&SetChange{Set: "x", From: i + 1, By: i + 1, Whole: true})
	}
	if knows(&h, "x") {
		t.Error("so many whole changes of so large a set are known")
	}
	h = SetHistory{}
	for i := range 10 * maxSets {
		h.Put(&SetChange{Set: Text(fmt.Sprint(i)), Whole: true})
	}
	if len(h.sets) > maxSets || !knows(&h, "1") || knows(&h, "600") {
		t.Errorf("%d sets are known", len(h.sets))
	}
}

// historian reads histories.
type historian struct {
	counter
	SetHistory
	lines int
}

func (h *historian) SetChange(c *SetChange) { h.lines++; h.Put(c) }

// TestSetStates: what a recorder was told of sets is in each part, once.
func TestSetStates(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 200, 1, 20*time.Second)
	path := filepath.Join(t.TempDir(), "x.hop")
	r := create(t, Options{Path: path, Parts: 100, PartBytes: 4 << 10}, w)
	big := make([]netip.AddrPort, 3*maxSetLine)
	for i := range big {
		big[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), uint16(i%3))
	}
	begin := w.events[0].Time
	tell := func(from, by uint64, isUntold bool, members []netip.AddrPort) {
		t.Helper()
		if err := r.SetState(&SetState{Set: "x", From: from, By: by, Untold: isUntold, Members: members}); err != nil {
			t.Fatal(err)
		}
	}
	tell(0, 0, false, big[:1])
	middle := len(w.events) / 2
	half := *w
	half.events = w.events[:middle]
	if _, err := drive(t, r, &half, nil); err != nil {
		t.Fatal(err)
	}
	mid := w.events[middle].Time
	tell(mid, mid+1, false, big[:1]) // the same
	tell(mid+2, 0, true, nil)
	tell(mid+3, 0, true, nil)
	tell(mid+2, mid+4, false, big)
	half.events = w.events[middle:]
	if _, err := drive(t, r, &half, nil); err != nil {
		t.Fatal(err)
	}
	tell(mid+4*second, mid+4*second, false, make([]netip.AddrPort, MaxSetMembers+1))
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	files := r.Files()
	if len(files) < 5 {
		t.Fatal(files)
	}
	var all historian
	for _, file := range files {
		var one historian
		if err := errors.Join(open(t, file).Run(&one), open(t, file).Run(&all)); err != nil {
			t.Fatal(err)
		}
		if one.lines == 0 || one.sets["x"].lost {
			t.Errorf("%s: %d lines", file, one.lines)
		}
	}
	for _, tt := range []struct {
		at         uint64
		has, knows bool
	}{{begin, false, true}, {mid + 3, false, false}, {mid + 4 + second, true, true}, {mid + 5*second, false, false}} {
		then, ok := all.At("x", tt.at, tt.at)
		if ok != tt.knows || ok && (then.Has(big[len(big)-1]) != tt.has || !then.Has(big[0])) {
			t.Errorf("at %d known %v, want %+v", tt.at, ok, tt)
		}
	}
}

// TestBadSets: what no set can be is damage, and the rest of the file is used.
func TestBadSets(t *testing.T) {
	w := mixed(t, "6.12-case7.jsonl", 1, 1, 0)
	data := w.small(t, 1000)
	bs := blocks(t, data)
	tail := data[bs[1].at:]
	for _, tt := range []struct{ name, text, want string }{
		{"good", `{"set":"x","whole":true,"add":["10.0.0.1"],"later":1}`, ""},
		{"no JSON", `{"set":"x"`, "unexpected end"},
		{"no address", `{"set":"x","add":["pod"]}`, "a member of a set is an address"},
		{"a network", `{"set":"x","add":["10.0.0.0/8"]}`, "a member of a set is an address"},
		{"no time", `{"set":"x","from":-1}`, "number"},
		{"backwards", `{"set":"x","from":5,"by":4}`, "over before it began"},
		{"a long name", `{"set":"` + strings.Repeat("x", 257) + `"}`, "name of a set"},
		{"a long line", `{"set":"x","add":["` + strings.Repeat(`10.0.0.1","`, 60000) + `10.0.0.1"]}`, "bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := append(slices.Clone(data[:bs[1].at]), rawBlock(kindSets, []byte(tt.text))...)
			r, err := NewReader(bytes.NewReader(append(file, tail...)))
			if err != nil {
				t.Fatal(err)
			}
			var h historian
			err = r.Run(&h)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) || h.events == 0 || r.End() == nil {
				t.Errorf("%d events, %.300v", h.events, err)
			}
		})
	}
}
