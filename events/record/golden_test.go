// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

var update = flag.Bool("update", false, "rewrite the golden texts; recordings are never rewritten")

// teller writes down all that a recording holds.
type teller struct {
	strings.Builder
	*stitched
}

func (d *teller) Tick(now uint64)  { fmt.Fprintf(d, "tick %d\n", now); d.stitched.Tick(now) }
func (d *teller) Facts(f *Facts)   { d.json("facts", f) }
func (d *teller) Status(s *Status) { d.json("status", s) }

// SetChange writes down what version 1.2 added.
func (d *teller) SetChange(c *SetChange) { d.json("set", c) }

// Name writes down what versions 1.1 and 1.2 added.
func (d *teller) Name(n *Name) {
	if n.Rule != nil || n.Virtual != nil || n.Service != nil || n.Task != nil || (n.Namespace != nil && n.Namespace.Labels != "") || (n.Address != nil && n.Address.Stale) {
		d.json("name", n)
	}
}

func (d *teller) json(what string, v any) {
	b, err := json.Marshal(v)
	fmt.Fprintln(d, what, string(b), err)
}

func (d *teller) Event(e *events.Event) {
	d.stitched.Event(e)
	fmt.Fprintf(d, "event %d packet %x seq %d flow %x hook %d cpu %d flags %02x netns %d if %d", e.Time, e.Packet, e.Seq, e.Flow, e.Hook, e.CPU, e.Flags, e.Netns, e.Ifindex)
	for _, v := range []struct {
		name string
		is   bool
		val  any
	}{
		{"other", e.Other != 0, e.Other},
		{"nf", e.NFFamily != 0 || e.NFHook != 0, [2]uint8{e.NFFamily, e.NFHook}},
		{"reason", e.Reason != 0, e.Reason},
		{"location", e.Location != 0, e.Location},
		{"ret", e.Ret != 0, e.Ret},
		{"icmp", e.ICMPType != 0 || e.ICMPCode != 0, [2]uint8{e.ICMPType, e.ICMPCode}},
		{"backend", e.Backend != (netip.AddrPort{}), e.Backend},
		{"socket", e.Socket != (events.Socket{}), e.Socket},
		{"link", e.Link != (events.Link{}), e.Link},
		{"header", e.Ext == events.ExtHeader, e.Header},
		{"ct", e.Ext == events.ExtConntrack, e.CT},
		{"bytes", e.Bytes != nil, fmt.Sprintf("%x", e.Bytes)},
	} {
		if v.is {
			fmt.Fprintf(d, " %s %v", v.name, v.val)
		}
	}
	d.WriteByte('\n')
}

func (d *teller) WriteByte(b byte) error { return d.Builder.WriteByte(b) }

func (d *teller) Write(b []byte) (int, error) { return d.Builder.Write(b) }

// TestGolden: a recording of each version of the format that was ever released
// is read forever: the same events, the same traversals.
func TestGolden(t *testing.T) {
	for _, file := range []string{"testdata/v1.hop", "testdata/v1.1.hop", "testdata/v1.2.hop"} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) && *update {
				data = goldenRecording(t)
				err = os.WriteFile(file, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var lines bytes.Buffer
			render := &events.LineRenderer{W: &lines, Location: time.UTC}
			s := events.NewStitcher(events.Config{
				Hooks: r.Hooks(), Names: r.Names(), Wall: r.Wall, Node: r.Meta().Node, HasFunctions: r.Meta().HasFunctions,
			}, func(tr *events.Traversal) {
				if err := render.Render(tr); err != nil {
					t.Error(err)
				}
			})
			d := &teller{stitched: &stitched{Stitcher: s}}
			d.json("meta", r.Meta())
			if err := r.Run(d); err != nil {
				t.Fatal(err)
			}
			s.Flush()
			d.json("end", r.End())
			base := strings.TrimSuffix(file, ".hop")
			golden(t, base+".lines", lines.String())
			golden(t, base+".events", d.String())
		})
	}
}

// golden compares a text with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("it is not as in %s (-update rewrites it):\n%s", file, got)
	}
}

// knowing are names that also know what later versions added.
type knowing struct{ events.Names }

func (k knowing) Address(ip string, port uint16) events.AddressNames {
	a := k.Names.Address(ip, port)
	a.Stale = a.Pod != ""
	return a
}

func (knowing) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	if ip != "8.219.164.113" || port != 80 || proto != 6 || node != "n1" {
		return events.ServiceFacts{}, false
	}
	return events.ServiceFacts{
		Name: "default/nginx1-local", Port: "http", Type: "LoadBalancer", Policy: events.PolicyLocal, Affinity: true, Elsewhere: 2, NotReady: 1,
		Endpoints: &events.ServiceEndpoints{List: []events.ServiceEndpoint{
			{Addr: netip.MustParseAddrPort("172.23.96.163:80"), Node: "n2", Zone: "zone-b", Ready: true, Serving: true},
			{Addr: netip.MustParseAddrPort("172.23.96.164:80"), Node: "n2", Ready: true, Serving: true},
			{Addr: netip.MustParseAddrPort("172.23.96.165:80"), Node: "n2"},
		}},
	}, true
}

func (k knowing) Namespace(netns uint32) events.Namespace {
	ns := k.Names.Namespace(netns)
	if ns.Pod != "" {
		ns.Labels = events.NewLabels(map[string]string{"app": ns.Name})
	}
	return ns
}

func (knowing) PodOfProcess(pid uint32) string { return fmt.Sprint("default/host-", pid) }

func (knowing) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	return events.VirtualFacts{
		After:  events.VirtualState{At: q.Time + 5e6, Destinations: 3, Idle: 1, Full: 1},
		Before: events.VirtualState{At: max(q.Time, 8e6) - 7e6, Destinations: 3},
	}, q.Service.Port() == 80
}

func (knowing) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	return (&ruled{asked: 4}).Rule(q)
}

// goldenRecording makes a recording with something of everything.
func goldenRecording(t *testing.T) []byte {
	w := mixed(t, "6.12-case7.jsonl", 1, 20, 0)
	var buf bytes.Buffer
	w.meta.Args, w.meta.Filter = []string{"stackhop", "record", "-w", "x.hop"}, "src in --from and tcp port 80"
	w.meta.Selection = []string{"--from", "pod/default/centos", "tcp port 80"}
	wr, err := NewWriter(&buf, w.meta)
	if err != nil {
		t.Fatal(err)
	}
	names := wr.Names(knowing{w.names})
	names.PodOfProcess(77)
	names.Rule(dropQuery(80, 1))
	names.Rule(dropQuery(81, 2))
	s := events.NewStitcher(events.Config{Hooks: hooksOf(w.meta), Names: names, HasFunctions: true}, func(*events.Traversal) {})
	facts := &Facts{
		Services: []Service{{Netns: 4026532160, Proto: 6, Addr: netip.MustParseAddrPort("8.219.164.113:80"), Scheduler: "rr", Destinations: []Destination{}}},
		Sysctls:  []Sysctl{{4026532160, "net.ipv4.ip_forward", "1"}},
	}
	if err := wr.Facts(facts); err != nil {
		t.Fatal(err)
	}
	begin := w.events[0].Time
	for _, c := range []*SetChange{
		{Set: "--from", Whole: true, Add: []Member{member("172.23.96.23"), member("172.23.96.23:80"), member("2001:db8::23"), member("[2001:db8::23]:80")}},
		{Set: "--from", From: begin + 5, Untold: true},
		{Set: "--from", From: begin + 5, By: begin + 9, Add: []Member{member("172.23.96.24")}, Del: []Member{member("172.23.96.23")}},
	} {
		if err := wr.SetChange(c); err != nil {
			t.Fatal(err)
		}
	}
	for i := range w.events {
		e := &w.events[i]
		s.Add(e)
		wr.Event(e)
		if i%50 == 49 {
			s.Advance(e.Time + 100)
			wr.Tick(e.Time + 100)
		}
		if i%200 == 199 {
			st := &Status{Clock: ClockPair{e.Time, int64(e.Time)}, Since: begin, Matched: 200, Delivered: 200} //nolint:gosec // small
			if err := wr.Status(st); err != nil {
				t.Fatal(err)
			}
		}
	}
	wr.Event(&events.Event{Packet: 1, Seq: 1}) // from elsewhere
	s.Flush()
	if err := wr.Close(&End{Matched: uint64(len(w.events)), Reason: "done"}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
