// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// Member is one end that a set of the selection has: an address with a port, or
// with port 0 at all ports.
type Member netip.AddrPort

// MarshalText implements encoding.TextMarshaler.
func (m Member) MarshalText() ([]byte, error) {
	a := netip.AddrPort(m)
	switch {
	case !a.Addr().IsValid() || a.Addr().Zone() != "":
		return nil, errMember
	case a.Port() == 0:
		return a.Addr().MarshalText()
	}
	return a.MarshalText()
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Member) UnmarshalText(text []byte) error {
	addr, err := netip.ParseAddr(string(text))
	a := netip.AddrPortFrom(addr, 0)
	if err != nil {
		if a, err = netip.ParseAddrPort(string(text)); err != nil || a.Port() == 0 {
			return errMember
		}
	}
	if a.Addr().Zone() != "" {
		return errMember
	}
	*m = Member(netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	return nil
}

var (
	errMember         = errors.New("a member of a set is an address, or an address and a port")
	errSetName        = fmt.Errorf("the name of a set has more than %d bytes", maxSetName)
	errTooManyMembers = fmt.Errorf("a set of more than %d members", MaxSetMembers)
)

// SetChange says which members a set of the selection (see Meta.Filter) has from a
// moment on: those that it had when they were told last, and Add, without Del.
// What follows with the same From and By is the same change.
type SetChange struct {
	Set Text `json:"set"`
	// From is when the members before may first not have been those of the
	// selection any longer, By when these surely were, in ns on the monotonic
	// clock; 0: before the recording began.
	From uint64 `json:"from,omitempty"`
	By   uint64 `json:"by,omitempty"`
	// Whole: it had none before.
	Whole bool `json:"whole,omitempty"`
	// Untold: from From on, up to the next change, it is not told which members
	// the selection goes by. Those that were told last stay what the next change is
	// about.
	Untold bool     `json:"untold,omitempty"`
	Add    []Member `json:"add,omitempty"`
	Del    []Member `json:"del,omitempty"`
}

const (
	// MaxSetMembers is how many members of a set are told at most.
	MaxSetMembers = 100_000
	maxSetName    = 256 // bytes
	// maxSetLine is how many members there are in a line, so that it is within
	// maxLine: 52 bytes each at most.
	maxSetLine = 4096
)

// split calls each with the parts of a change that fit in a line.
func (c *SetChange) split(each func(*SetChange) error) error {
	part := *c
	add, del := c.Add, c.Del
	for first := true; first || len(add)+len(del) > 0; first = false {
		n := min(len(add), maxSetLine)
		part.Add, add = add[:n], add[n:]
		n = min(len(del), maxSetLine-n)
		part.Del, del = del[:n], del[n:]
		part.Whole = c.Whole && first
		if err := each(&part); err != nil {
			return err
		}
	}
	return nil
}

// SetChange adds which members a set has. What it says is told by its own times,
// whatever events come before it.
func (w *Writer) SetChange(c *SetChange) error {
	if len(c.Set) > maxSetName {
		return fmt.Errorf("write recording: %w", errSetName)
	}
	w.cut()
	var lines []byte
	err := c.split(func(part *SetChange) error {
		line, err := json.Marshal(part)
		if err != nil {
			return fmt.Errorf("write recording: %w", err)
		}
		lines = append(append(lines, line...), '\n')
		if len(lines) >= maxLine {
			w.put(kindSets, lines)
			lines = lines[:0]
		}
		return nil
	})
	if err == nil && len(lines) > 0 {
		w.put(kindSets, lines)
	}
	return errors.Join(err, w.err)
}

// parseSets reads a block of sets: a JSON object a line.
func parseSets(raw []byte, each func(*SetChange)) error {
	for line := range splitLines(raw) {
		if len(line) >= maxLine {
			return fmt.Errorf("a change of a set of %d bytes", len(line))
		}
		var c SetChange
		if err := json.Unmarshal(line, &c); err != nil {
			return err
		}
		switch {
		case len(c.Set) > maxSetName:
			return errSetName
		case c.By < c.From && !c.Untold:
			return errors.New("a change of a set that is over before it began")
		case max(len(c.Add), len(c.Del)) > MaxSetMembers:
			return errTooManyMembers
		}
		each(&c)
	}
	return nil
}

// SetState is which members a set of the selection has.
type SetState struct {
	Set string
	// From and By are those of SetChange.
	From, By uint64
	// Untold: it is not known which members the selection goes by from From on.
	Untold  bool
	Members []netip.AddrPort // port 0: all ports
}

// toldSet is what a recording says of a set so far.
type toldSet struct {
	name     string
	from, by uint64 // of the last change
	members  map[Member]struct{}
	untold   bool
	since    uint64 // when it became untold
}

// SetState records which members a set has, if that is something else than before;
// each part begins with it. A set with more than MaxSetMembers is untold.
func (r *Recorder) SetState(s *SetState) error {
	var was *toldSet
	for _, t := range r.sets {
		if t.name == s.Set {
			was = t
		}
	}
	first := was == nil
	if first {
		was = &toldSet{name: s.Set}
		r.sets = append(r.sets, was)
	}
	if s.Untold || len(s.Members) > MaxSetMembers {
		if was.untold {
			return nil
		}
		was.untold, was.since = true, s.From
		return r.w.SetChange(was.doubt())
	}
	c := was.change(s)
	if !first && !was.untold && len(c.Add)+len(c.Del) == 0 {
		return nil
	}
	c.Whole = first || was.members == nil
	was.become(c)
	return r.w.SetChange(c)
}

// doubt says that the set is untold.
func (t *toldSet) doubt() *SetChange {
	return &SetChange{Set: Text(t.name), From: t.since, Untold: true}
}

// change is what makes of the set what it is now.
func (t *toldSet) change(s *SetState) *SetChange {
	c := &SetChange{Set: Text(t.name), From: s.From, By: s.By}
	is := make(map[Member]struct{}, len(s.Members))
	for _, a := range s.Members {
		m := Member(a)
		if _, twice := is[m]; twice {
			continue
		}
		is[m] = struct{}{}
		if _, had := t.members[m]; !had {
			c.Add = append(c.Add, m)
		}
	}
	for m := range t.members {
		if _, has := is[m]; !has {
			c.Del = append(c.Del, m)
		}
	}
	return c
}

func (t *toldSet) become(c *SetChange) {
	if t.members == nil {
		t.members = map[Member]struct{}{}
	}
	for _, m := range c.Add {
		t.members[m] = struct{}{}
	}
	for _, m := range c.Del {
		delete(t.members, m)
	}
	t.from, t.by, t.untold = c.From, c.By, false
}

// tellSets tells all sets again: a part must do without those before it.
func (r *Recorder) tellSets() error {
	for _, t := range r.sets {
		if t.members != nil {
			c := &SetChange{Set: Text(t.name), From: t.from, By: t.by, Whole: true}
			for m := range t.members {
				c.Add = append(c.Add, m)
			}
			if err := r.w.SetChange(c); err != nil {
				return err
			}
		}
		if t.untold {
			if err := r.w.SetChange(t.doubt()); err != nil {
				return err
			}
		}
	}
	return nil
}
