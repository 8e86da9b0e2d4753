// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// parsed is what a page's data say, read back.
type parsed struct {
	Count, Listed, Bare int
	Verdicts            map[string]int
	Groups              []struct {
		Verdict string
		Other   bool
		Count   int
		Times   [][4]uint64
	}
	rows    map[string]json.RawMessage
	ids     []string
	details map[int]bool // rows that are there with their hooks
}

var element = regexp.MustCompile(`<script type="application/json" id="([a-z0-9]+)">([^<]*)</script>`)

func parsePage(t *testing.T, page []byte) parsed {
	t.Helper()
	p := parsed{details: map[int]bool{}}
	read := func(b []byte, v any) {
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range element.FindAllSubmatch(page, -1) {
		switch id := string(m[1]); id {
		case "data":
			read(m[2], &p)
		case "rows":
			read(m[2], &p.rows)
			read(p.rows["id"], &p.ids)
		default:
			var list map[int]json.RawMessage
			read(m[2], &list)
			for row := range list {
				p.details[row] = true
			}
		}
	}
	for name, column := range p.rows {
		var values []json.RawMessage
		if name == "because" || name == "therefore" {
			continue
		}
		if read(column, &values); len(values) != p.Listed {
			t.Errorf("column %s has %d values for %d rows", name, len(values), p.Listed)
		}
	}
	return p
}

// check holds a page to what it must be whatever was put in: below 30 MiB, and
// with each traversal counted.
func check(t *testing.T, page []byte, count int) parsed {
	t.Helper()
	if len(page) >= 30<<20 {
		t.Errorf("%d bytes", len(page))
	}
	p := parsePage(t, page)
	sum := 0
	for _, g := range p.Groups {
		sum += g.Count
	}
	byVerdict := 0
	for _, n := range p.Verdicts {
		byVerdict += n
	}
	if p.Count != count || sum != count || byVerdict != count || p.Listed != len(p.ids) || p.Bare != p.Listed-len(p.details) {
		t.Errorf("%d traversals, %d on paths, %d by verdict, %d listed as %d IDs, %d of them bare with %d details; want %d",
			p.Count, sum, byVerdict, p.Listed, len(p.ids), p.Bare, len(p.details), count)
	}
	return p
}

// TestLarge: of 100,000 packets all are listed; all that were terminated are
// there with their hooks, and some of each path.
func TestLarge(t *testing.T) {
	list := captured(t, "6.12-case*.jsonl")
	page := pageOf(t, Input{Traversals: many(list, 100_000)})
	p := check(t, page, 100_000)
	if p.Listed != 100_000 {
		t.Errorf("%d listed", p.Listed)
	}
	var groupOf []int
	if err := json.Unmarshal(p.rows["group"], &groupOf); err != nil {
		t.Fatal(err)
	}
	detailed := make([]int, len(p.Groups))
	for row := range p.details {
		detailed[groupOf[row]]++
	}
	for i, g := range p.Groups {
		want := maxSamples / 2
		if g.Verdict == string(events.Terminated) {
			want = g.Count
		}
		if detailed[i] < want {
			t.Errorf("path %d, %s: %d of %d with details", i, g.Verdict, detailed[i], g.Count)
		}
	}
	t.Logf("%d bytes, %d with details", len(page), len(p.details))
}

// TestBounds: neither many paths nor long names nor nothing but failures make
// the file too large.
func TestBounds(t *testing.T) {
	list := captured(t, "6.12-case[79].jsonl")
	long := func(i int) string { return fmt.Sprintf("%d", i) + strings.Repeat("\u202e", 600) }
	for name, change := range map[string]func(*events.Traversal, int){
		"terminated": func(tr *events.Traversal, _ int) { tr.Verdict = events.Terminated },
		"paths":      func(tr *events.Traversal, i int) { tr.Visits[0].Name = fmt.Sprintf("pod-%d", i) },
		"long names": func(tr *events.Traversal, i int) { *tr = *poison(tr, long(i), tr.ID) },
		"long details": func(tr *events.Traversal, i int) {
			for j := range tr.Visits[0].Hooks {
				tr.Visits[0].Hooks[j].Detail = long(i*100 + j)
			}
		},
		"long links": func(tr *events.Traversal, i int) { tr.Causes, tr.CausesText = []string{long(i)}, []string{long(-i)} },
		"markup":     func(tr *events.Traversal, i int) { *tr = *poison(tr, fmt.Sprint(i)+strings.Repeat("<", 600), tr.ID) },
		"addresses": func(tr *events.Traversal, i int) {
			for v := range tr.Visits {
				for k := range tr.Visits[v].NAT {
					tr.Visits[v].NAT = append([]events.NAT(nil), tr.Visits[v].NAT...)
					tr.Visits[v].NAT[k].From = strings.Repeat("<", 600) + fmt.Sprint(i) + "→"
				}
				tr.Visits[v].Name = fmt.Sprint(i / 40)
			}
		},
		"flows": func(tr *events.Traversal, i int) { tr.Flow = long(i) },
	} {
		t.Run(name, func(t *testing.T) {
			check(t, pageOf(t, Input{Traversals: changedAll(many(list, 8_000), change)}), 8_000)
		})
	}
}

// changedAll changes copies of traversals.
func changedAll(seq iter.Seq[*events.Traversal], change func(*events.Traversal, int)) iter.Seq[*events.Traversal] {
	return func(yield func(*events.Traversal) bool) {
		i := 0
		for tr := range seq {
			tr.Visits = append([]events.Visit(nil), tr.Visits...)
			tr.Visits[0].Hooks = append([]events.HookVisit(nil), tr.Visits[0].Hooks...)
			change(tr, i)
			if i++; !yield(tr) {
				return
			}
		}
	}
}

// TestManyPaths: beyond the bound paths are put together by how they ended.
func TestManyPaths(t *testing.T) {
	list := captured(t, "6.12-case7.jsonl")
	page := pageOf(t, Input{Traversals: changedAll(many(list, 5000), func(tr *events.Traversal, i int) {
		tr.Visits[0].Name = fmt.Sprintf("pod-%d", i)
	})})
	p := check(t, page, 5000)
	others := 0
	for _, g := range p.Groups {
		if g.Other {
			others++
		}
	}
	if len(p.Groups) != maxGroups+2 || others != 2 {
		t.Errorf("%d paths, %d of them of others", len(p.Groups), others)
	}
	b := open(t, page, 1280, 1000)
	contains(t, b.eval("document.querySelector('.path').innerText"), "Other paths, terminated in IPVS: no destination", "1,500")
	b.click(".path .card")
	b.click(".path.open .list tbody a")
	b.wait("document.querySelector('dialog').open")
	contains(t, b.eval("document.querySelector('dialog').textContent"), "pod-", "ip_vs_leave", "terminated in IPVS")
	contains(t, b.eval("document.getElementById('paths').lastChild.innerText"), "1,502 more paths")
	b.quiet()
}

// TestWriteFails: an error of the writer is told.
func TestWriteFails(t *testing.T) {
	full := errors.New("disk full")
	if err := Write(failing{full}, Input{Traversals: all(captured(t, "6.12-case7.jsonl"))}); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestTimes: percentiles are those of all values up to the bound, and near them beyond.
func TestTimes(t *testing.T) {
	for _, n := range []int{1, 2, 100, maxTimes, 3 * maxTimes} {
		s := times{width: 2, stride: 1}
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) { //nolint:gosec // a test
			s.add(&events.Traversal{Visits: []events.Visit{{EndNS: uint64(i + 1)}}}) //nolint:gosec // not negative
		}
		q := s.quantiles()
		if len(q) != 2 || q[0] != q[1] {
			t.Fatalf("%d: %v", n, q)
		}
		for k, percent := range []int{50, 90, 99, 100} {
			got, want := int(q[0][k]), (n*percent+99)/100 //nolint:gosec // small
			slack := 0
			if n > maxTimes {
				slack = n / 20
			}
			if got < want-slack || got > want+slack {
				t.Errorf("%d values: p%d is %d, not %d", n, percent, got, want)
			}
		}
		if len(s.values) > maxTimes*s.width {
			t.Errorf("%d: %d values kept", n, len(s.values))
		}
	}
}
