// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// restless are names of services whose endpoints change with each question.
type restless struct {
	knowing
	n int
}

func (r *restless) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	f, ok := r.knowing.Service(ip, port, proto, node)
	r.n++
	f.NotReady = r.n
	return f, ok
}

// TestServicesReplayed: the traversals of a replay say of services what the run's
// said, and the recording holds what was asked and answered, and no more.
func TestServicesReplayed(t *testing.T) {
	w := mixed(t, "6.12-case[57].jsonl", 4, 1, 5*time.Second)
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, w.meta)
	if err != nil {
		t.Fatal(err)
	}
	inner := &restless{knowing: knowing{w.names}}
	live := newStitched(t, w.meta, hooksOf(w.meta), wr.Names(inner))
	for i := range w.events {
		live.Event(&w.events[i])
		wr.Event(&w.events[i])
		if i%50 == 49 {
			live.Tick(w.events[i].Time)
			wr.Tick(w.events[i].Time)
		}
	}
	live.Flush()
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	var all collector
	replay(t, buf.Bytes(), &all)
	told := 0
	for _, n := range all.names {
		if s := n.Service; s != nil {
			told++
			if s.IP != "8.219.164.113" || s.Port != 80 || s.On != "n1" || s.Gone {
				t.Errorf("%+v was not known, or not asked for", s)
			}
		}
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	again := newStitched(t, r.Meta(), r.Hooks(), r.Names())
	if err := r.Run(again); err != nil {
		t.Fatal(err)
	}
	again.Flush()
	said := bytes.Count(live.Bytes(), []byte(`"policy Local, 2 endpoints on other nodes, none here; `))
	if !bytes.Equal(live.Bytes(), again.Bytes()) || said < 4 || told < 2 || told > inner.n {
		t.Errorf("told %d times of %d questions, said %d times; live:\n%.2000s\nreplayed:\n%.2000s", told, inner.n, said, live.Bytes(), again.Bytes())
	}
}

// TestServicesNotKnown: names that know no services and no processes say nothing of
// them, and nothing is written.
func TestServicesNotKnown(t *testing.T) {
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	names := wr.Names(anyOf{})
	if f, ok := names.Service("10.0.0.1", 80, 6, "n1"); ok {
		t.Errorf("%+v", f)
	}
	if pod := names.PodOfProcess(1); pod != "" {
		t.Errorf("pod %q", pod)
	}
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	var all collector
	replay(t, buf.Bytes(), &all)
	if len(all.names) != 0 {
		t.Errorf("%+v", all.names)
	}
}

// absurd counts endpoints as nobody does.
type absurd struct {
	anyOf
	asked int
}

func (a *absurd) Service(string, uint16, uint8, string) (events.ServiceFacts, bool) {
	a.asked++
	return events.ServiceFacts{Here: math.MaxInt, Elsewhere: -1}, true
}

// TestServiceCounts: a count that does not fit is cut, and answered so at once.
func TestServiceCounts(t *testing.T) {
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	inner := &absurd{}
	names := wr.Names(inner)
	var said []string
	for i := range uint64(3) {
		f, ok := names.Service("10.0.0.1", 80, 6, "n1")
		said = append(said, fmt.Sprint(f.Here, f.Elsewhere, ok))
		wr.Tick(i)
	}
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	var all collector
	r := replay(t, buf.Bytes(), &all)
	f, ok := events.ServiceOf(r.Names(), "10.0.0.1", 80, 6, "n1")
	said = append(said, fmt.Sprint(f.Here, f.Elsewhere, ok))
	if want := slices.Repeat([]string{"65535 0 true"}, 4); !slices.Equal(said, want) || len(all.names) != 1 || inner.asked != 3 {
		t.Errorf("%q, %d names, asked %d times", said, len(all.names), inner.asked)
	}
}

// crowded has more endpoints than are told.
type crowded struct {
	anyOf
	n, leftOut int
}

func (c crowded) Service(string, uint16, uint8, string) (events.ServiceFacts, bool) {
	e := &events.ServiceEndpoints{LeftOut: c.leftOut}
	for i := range c.n {
		at := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		e.List = append(e.List, events.ServiceEndpoint{Addr: netip.AddrPortFrom(at, 80), Node: "n2", Ready: true})
	}
	return events.ServiceFacts{Name: "a/s", Endpoints: e}, true
}

// TestEndpointBounds: of too many endpoints some are left out and counted, and that
// is what the run itself is answered.
func TestEndpointBounds(t *testing.T) {
	for _, tt := range []struct{ n, leftOut, list, out int }{
		{0, 0, 0, 0},
		{3, 2, 3, 2},
		{events.MaxEndpoints, 0, events.MaxEndpoints, 0},
		{events.MaxEndpoints + 5, 7, events.MaxEndpoints, 12},
		{1, math.MaxInt - 1, 1, 1 << 30},
		{1, -1, 1, 0},
	} {
		var buf bytes.Buffer
		wr, err := NewWriter(&buf, &Meta{})
		if err != nil {
			t.Fatal(err)
		}
		names := wr.Names(crowded{n: tt.n, leftOut: tt.leftOut})
		var said []events.ServiceFacts
		for i := range uint64(3) {
			f, _ := names.Service("10.0.0.1", 80, 6, "n1")
			said = append(said, f)
			wr.Tick(i)
		}
		if err := wr.Close(&End{}); err != nil {
			t.Fatal(err)
		}
		var all collector
		r := replay(t, buf.Bytes(), &all)
		f, _ := events.ServiceOf(r.Names(), "10.0.0.1", 80, 6, "n1")
		for _, f := range append(said, f) {
			if e := f.Endpoints; e == nil || len(e.List) != tt.list || e.LeftOut != tt.out {
				t.Errorf("%d endpoints and %d: %d are told, %d left out", tt.n, tt.leftOut, len(e.List), e.LeftOut)
			}
		}
		if len(all.names) != 1 {
			t.Errorf("%d endpoints: told %d times", tt.n, len(all.names))
		}
	}
}

// TestEndpointsRead: whatever a file says, no more are taken than may be, and what
// a later version adds to them is passed over.
func TestEndpointsRead(t *testing.T) {
	many := strings.Repeat(`{"addr":"10.0.0.1:80"},`, 3*events.MaxEndpoints)
	line := fmt.Sprintf(`{"service":{"ip":"10.0.0.1","port":80,"proto":6,"on":"n1","endpoints":{"list":[{"addr":"[::1]:0","hints":["a"]},%s],"left_out":4294967295,"later":1}}}`, strings.TrimSuffix(many, ","))
	names, err := parseNames([]byte(line), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := newBook()
	if err := b.put(&names[0]); err != nil {
		t.Fatal(err)
	}
	f, ok := b.Service("10.0.0.1", 80, 6, "n1")
	if !ok || len(f.Endpoints.List) != events.MaxEndpoints || f.Endpoints.LeftOut != 1<<30+2*events.MaxEndpoints+1 {
		t.Errorf("%v: %d, %d left out", ok, len(f.Endpoints.List), f.Endpoints.LeftOut)
	}
	if b.size < 96*events.MaxEndpoints {
		t.Errorf("they count %d bytes", b.size)
	}
	for _, bad := range []string{`[]`, `{"list":{}}`, `{"list":[{"addr":"x"}]}`, `{"left_out":-1}`, `{"left_out":4294967296}`} {
		if _, err := parseNames(fmt.Appendf(nil, `{"service":{"endpoints":%s}}`, bad), nil); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}
