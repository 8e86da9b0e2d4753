// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/events/record"
)

// tickEvery is after how many events a test's recording has a tick.
const tickEvery = 20

// recorded makes a recording of a capture. With a Redactor it is redacted while
// it is made.
func recorded(t testing.TB, c *events.Capture, r *Redactor) []byte {
	t.Helper()
	m := record.Meta{
		Tool: "test", Kernel: c.Header.Kernel, Node: "n1.acme.example", BootID: "0a6f2b1c-boot", RunID: "0a6f2b1c-run",
		Args: []string{"stackhop", "record", "--to", "svc/acme/web"}, Filter: "host 172.23.96.23 and (dst in --to or src in svc/acme/shop:80)",
		Selection: []string{"--to", "svc/acme/web:80", "tcp"}, HasFunctions: true, SnapLen: 96,
		Clock: record.ClockPair{Mono: 1, Real: 2},
	}
	for _, h := range c.Header.Hooks {
		m.Hooks = append(m.Hooks, record.Hook{ID: h.ID, Name: h.Name, Station: h.Station})
	}
	facts := testFacts()
	names := events.Names(cluster{c.Names})
	if r != nil {
		m, facts, names = r.Meta(m), r.Facts(facts), r.Names(names)
	}
	var out bytes.Buffer
	w, err := record.NewWriter(&out, &m)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range testSets() {
		if r != nil {
			break // Recorder is told of pseudonyms
		}
		if err := w.SetChange(s); err != nil {
			t.Fatal(err)
		}
	}
	s := events.NewStitcher(events.Config{Hooks: c.Hooks, Names: w.Names(names), HasFunctions: true}, func(*events.Traversal) {})
	for i := range c.Events {
		e := c.Events[i]
		if e.Ext == events.ExtHeader {
			e.Bytes = packetOf(&e.Header)
		}
		if r != nil {
			r.Event(&e)
		}
		s.Add(&e)
		w.Event(&e)
		if i%tickEvery == 0 {
			s.Advance(e.Time)
			w.Tick(e.Time)
		}
	}
	s.Flush()
	if err := errors.Join(w.Facts(facts), w.Status(&record.Status{Matched: 7}), w.Close(&record.End{Reason: "done"})); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// testSets are changes of a set with the ends of the captures.
func testSets() []*record.SetChange {
	end := func(s string) record.Member {
		var m record.Member
		if err := m.UnmarshalText([]byte(s)); err != nil {
			panic(err)
		}
		return m
	}
	return []*record.SetChange{
		{Set: "--to", Whole: true, Add: []record.Member{end("192.168.13.23:80"), end("172.23.96.163:8080"), end("172.23.96.23")}},
		{Set: "--to", From: 5e9, By: 6e9, Add: []record.Member{end("172.23.96.24")}, Del: []record.Member{end("172.23.96.23")}},
		{Set: "svc/acme/shop:80", Whole: true},
	}
}

func testFacts() *record.Facts {
	end := netip.MustParseAddrPort
	return &record.Facts{
		Services: []record.Service{{
			Netns: 4026532160, Proto: protoTCP, Addr: end("192.168.13.23:80"), Scheduler: "rr",
			Destinations: []record.Destination{{Addr: end("172.23.96.163:8080"), Weight: 1}},
		}},
		Sysctls: []record.Sysctl{{Netns: 4026532160, Name: "net.ipv4.conf.vethcentos.forwarding", Value: "1"}},
		Conntrack: []record.CTEntry{{
			Netns:    4026532160,
			Original: record.Tuple{Proto: protoTCP, Src: end("172.23.96.23:40000"), Dst: end("192.168.13.23:80")},
			Reply:    record.Tuple{Proto: protoTCP, Src: end("172.23.96.163:8080"), Dst: end("172.23.96.23:40000")},
		}},
	}
}

// replay reads a recording: its traversals, and all it holds as text and bytes.
type replay struct {
	s      *events.Stitcher
	all    []*events.Traversal
	text   bytes.Buffer
	raw    bytes.Buffer
	events int
	sets   record.SetHistory
}

func (p *replay) Event(e *events.Event) {
	p.s.Add(e)
	p.events++
	binaryDump(&p.raw, reflect.ValueOf(*e))
}
func (p *replay) Tick(now uint64)         { p.s.Advance(now) }
func (p *replay) Name(n *record.Name)     { p.json(n) }
func (p *replay) Facts(f *record.Facts)   { p.json(f) }
func (p *replay) Status(s *record.Status) { p.json(s) }
func (p *replay) SetChange(c *record.SetChange) {
	p.json(c)
	p.sets.Put(c)
}
func (p *replay) json(v any) {
	b, _ := json.Marshal(v)
	p.text.Write(b)
}

func replayed(t testing.TB, file []byte) (*replay, *record.Reader) {
	t.Helper()
	rd, err := record.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	p := &replay{}
	p.json(rd.Meta())
	p.s = events.NewStitcher(events.Config{Hooks: rd.Hooks(), Names: rd.Names(), HasFunctions: rd.Meta().HasFunctions},
		func(t *events.Traversal) { p.all = append(p.all, t) })
	if err := rd.Run(p); err != nil {
		t.Fatal(err)
	}
	p.s.Flush()
	p.json(rd.End())
	return p, rd
}

// TestCopy: a recording that is redacted afterwards, and one that was while it
// was made, replay to the original's traversals and hold nothing original.
func TestCopy(t *testing.T) {
	for name, c := range captures(t, "6.12-case[1-9].jsonl") {
		plain := recorded(t, c, nil)
		var after bytes.Buffer
		if err := Copy(bytes.NewReader(plain), &after, New(Key{4})); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		o := collect(c)
		o.bytes["acme"], o.bytes["0a6f2b1c"], o.bytes["GET "], o.bytes["vethcentos"] = true, true, true, true
		services := 0
		was, _ := replayed(t, plain)
		for _, tr := range was.all {
			if tr.Service != nil {
				services++
			}
		}
		if touched := bytes.Contains(was.text.Bytes(), []byte(untouched)); touched != (services > 0) {
			t.Errorf("%s: %d packets to services; endpoints are told: %t", name, services, touched)
		}
		o.texts[untouched], o.texts["team"] = true, true
		if n := len(o.found(was.text.Bytes(), was.raw.Bytes())); n < len(o.bytes) {
			t.Fatalf("%s: only %d originals found where nothing is redacted", name, n)
		}
		for how, file := range map[string][]byte{"afterwards": after.Bytes(), "while recording": recorded(t, c, New(Key{4}))} {
			is, rd := replayed(t, file)
			if left := o.found(is.text.Bytes(), append(is.raw.Bytes(), file...)); len(left) > 0 {
				t.Errorf("%s, redacted %s: left: %q", name, how, left)
			}
			if !rd.Meta().Redacted || rd.End() == nil || is.events != was.events || len(is.all) != len(was.all) {
				t.Errorf("%s, redacted %s: %+v, %d events, %d traversals; want %d and %d", name, how, rd.Meta(), is.events, len(is.all), was.events, len(was.all))
				continue
			}
			for i := range was.all {
				if a, b := shape(was.all[i]), shape(is.all[i]); a != b {
					t.Errorf("%s, redacted %s: traversal %d\nwas %s\nis  %s", name, how, i, a, b)
				}
				checkEnds(t, New(Key{4}), was.all[i], is.all[i])
			}
			if how == "afterwards" {
				checkSets(t, New(Key{4}), rd.Meta(), &is.sets)
			}
		}
	}
}

// checkSets: the pseudonyms are members when the originals were, of the sets that
// the filter has.
func checkSets(t *testing.T, r *Redactor, m *record.Meta, sets *record.SetHistory) {
	t.Helper()
	x, err := pcapexpr.ParseSets(m.Filter)
	if err != nil || len(x.Sets()) != 2 || x.Sets()[0].Name() != "--to" {
		t.Fatalf("filter %q: %v", m.Filter, err)
	}
	for _, tt := range []struct {
		at  uint64
		end string
		is  bool
	}{
		{1e9, "192.168.13.23:80", true}, {8e9, "192.168.13.23:80", true}, {1e9, "172.23.96.23:0", true}, {8e9, "172.23.96.23:0", false},
		{1e9, "172.23.96.24:0", false}, {8e9, "172.23.96.24:0", true},
	} {
		then, ok := sets.At("--to", tt.at, tt.at)
		if !ok || then.Has(r.AddrPort(netip.MustParseAddrPort(tt.end))) != tt.is {
			t.Errorf("at %d %s: known %v, want %v", tt.at, tt.end, ok, tt.is)
		}
	}
	if _, ok := sets.At(x.Sets()[1].Name(), 1e9, 1e9); !ok {
		t.Errorf("nothing is known of %q", x.Sets()[1].Name())
	}
	if len(m.Selection) != 3 || m.Selection[0] != "--to" || !strings.HasPrefix(m.Selection[1], "svc/") || !strings.HasSuffix(m.Selection[1], ":80") || m.Selection[2] != "tcp" {
		t.Errorf("selection %q", m.Selection)
	}
}

func TestCopyOfPart(t *testing.T) {
	c := captures(t, "6.12-case7.jsonl")["6.12-case7.jsonl"]
	plain := recorded(t, c, nil)
	var out bytes.Buffer
	if err := Copy(bytes.NewReader(plain[:len(plain)-10]), &out, New(Key{1})); err == nil {
		t.Error("a recording that was cut has no damage")
	}
	p, rd := replayed(t, out.Bytes())
	if _, known := p.sets.At("--to", 1e9, 1e9); known {
		t.Error("the copy knows of the sets, of which a part may be missing in the original")
	}
	if rd.End() != nil || p.events != len(c.Events) {
		t.Errorf("%d events, end %v", p.events, rd.End())
	}
	if err := Copy(bytes.NewReader(out.Bytes()), &bytes.Buffer{}, New(Key{1})); !errors.Is(err, ErrRedacted) {
		t.Errorf("redacting again: %v", err)
	}
	if err := Copy(strings.NewReader("no recording at all"), &bytes.Buffer{}, New(Key{1})); !errors.Is(err, record.ErrNotRecording) {
		t.Errorf("another file: %v", err)
	}
}
