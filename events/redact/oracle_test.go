// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// captures reads the captures of the lab that match a pattern.
func captures(t testing.TB, pattern string) map[string]*events.Capture {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "captures", pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no captures %s: %v", pattern, err)
	}
	all := map[string]*events.Capture{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := events.ReadCapture(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[filepath.Base(path)] = c
	}
	return all
}

// redacted returns a copy of a capture's events in pseudonyms.
func redacted(r *Redactor, evs []events.Event) []events.Event {
	out := make([]events.Event, len(evs))
	for i := range evs {
		out[i] = evs[i]
		r.Event(&out[i])
		out[i].Bytes = bytes.Clone(out[i].Bytes)
	}
	return out
}

func stitch(c *events.Capture, evs []events.Event, names events.Names, only string) []*events.Traversal {
	var all []*events.Traversal
	s := events.NewStitcher(events.Config{
		Hooks: c.Hooks, Names: names, HasFunctions: c.Header.HasFunctions, OnlyNode: only,
	}, func(t *events.Traversal) { all = append(all, t) })
	for i := range evs {
		s.Add(&evs[i])
	}
	s.Flush()
	return all
}

// TestSameTraversals: what is stitched from redacted events is the original's
// traversals with other names, with and without ports, for all nodes and one.
func TestSameTraversals(t *testing.T) {
	for name, c := range captures(t, "*.jsonl") {
		for _, only := range []string{"", "n1"} {
			r := New(Key{3})
			r.Ports = only != ""
			names := cluster{c.Names}
			was := stitch(c, c.Events, names, only)
			is := stitch(c, redacted(r, c.Events), r.Names(names), r.Object(only))
			if len(was) == 0 && only == "" || len(was) != len(is) {
				t.Errorf("%s: %d traversals, of the redacted events %d", name, len(was), len(is))
				continue
			}
			for i := range was {
				if a, b := shape(was[i]), shape(is[i]); a != b {
					t.Errorf("%s: traversal %d\nwas %s\nis  %s", name, i, a, b)
				}
				checkEnds(t, r, was[i], is[i])
			}
		}
	}
}

// shape is what of a traversal must not change.
func shape(t *events.Traversal) string {
	var b bytes.Buffer
	fmt.Fprint(&b, t.Time, t.Direction, t.Proto, t.TCPFlags, t.ICMP, t.Length, t.Stacks, t.L3Stacks, t.Verdict, t.Where, t.Reason,
		t.KernelReason, t.Location, len(t.DataLink), len(t.Causes), t.CausedBy != "", len(t.Notes), t.NotObserved, t.Complete, t.Lost,
		t.In != nil, t.Out != nil, len(t.Packets), t.Src.Process != "", t.Dst.Process != "", t.Src.Pod != "", t.Dst.Service != "")
	if f := t.Service; f != nil {
		fmt.Fprint(&b, f.Type, f.Policy, f.Affinity, f.Here, f.Elsewhere, f.Terminating, f.NotReady, f.Stale, slices.Contains(t.Notes, f.String()))
		for _, e := range f.Endpoints.List {
			fmt.Fprint(&b, e.Addr.Port() != 0, e.Zone != "", e.Ready, e.Serving, e.Terminating)
		}
		fmt.Fprint(&b, f.Endpoints.LeftOut)
	}
	nat := func(list []events.NAT) {
		for _, n := range list {
			fmt.Fprint(&b, n.By, n.Kind, n.Hook, n.NS, n.Masquerade, n.Mark, n.Service != "", n.Pod != "", n.Node != "", n.Stale)
		}
	}
	nat(t.NAT)
	for i := range t.Visits {
		v := &t.Visits[i]
		fmt.Fprint(&b, len(v.Labels.Map()), v.Kind, v.Node != "", v.Pod != "", v.Entered, v.Left, v.Stacks, v.Bridged, v.BridgeNF, len(v.Devices), v.StartNS, v.EndNS)
		nat(v.NAT)
		for _, h := range v.Hooks {
			fmt.Fprint(&b, h.Hook, h.NS, h.Device != "", h.Detail != "")
		}
	}
	return b.String()
}

// checkEnds compares the ends of a traversal one by one.
func checkEnds(t *testing.T, r *Redactor, was, is *events.Traversal) {
	t.Helper()
	ends := func(was, is events.Endpoint) {
		if addr, err := netip.ParseAddr(was.IP); err == nil {
			was.IP = r.Addr(addr).String()
		}
		was.Port = r.Port(was.Port)
		was.Pod, was.Service, was.Node = r.Object(was.Pod), r.Object(was.Service), r.Object(was.Node)
		was.Process, was.PID = r.Process(was.Process), r.PID(was.PID)
		if was != is {
			t.Errorf("end %+v, want %+v", is, was)
		}
	}
	ends(was.Src, is.Src)
	ends(was.Dst, is.Dst)
	if f := was.Service; f != nil && !reflect.DeepEqual(is.Service.Endpoints, r.Endpoints(f.Endpoints)) {
		t.Errorf("endpoints %s, of %s", is.Service.Endpoints, f.Endpoints)
	}
	for i := range was.Visits {
		if was, is := was.Visits[i].Labels, is.Visits[i].Labels; is != r.Labels(was) {
			t.Errorf("labels %s became %s", was, is)
		}
		if w, s := &was.Visits[i], &is.Visits[i]; r.Object(w.Name) != s.Name || r.Netns(w.Netns) != s.Netns || r.Object(w.Node) != s.Node || r.Object(w.Pod) != s.Pod {
			t.Errorf("visit %s %d of %s became %s %d of %s", w.Name, w.Netns, w.Node, s.Name, s.Netns, s.Node)
		}
	}
}

// originals are the things that may not be in any output.
type originals struct {
	texts  map[string]bool // as a word of its own in text
	fields map[string]bool // as a field of a JSON object
	bytes  map[string]bool // anywhere
}

func collect(c *events.Capture) *originals {
	o := &originals{texts: map[string]bool{}, fields: map[string]bool{}, bytes: map[string]bool{}}
	r := New(Key{})
	addr := func(a netip.Addr) {
		if !a.IsValid() || r.Addr(a) == a {
			return
		}
		o.texts[a.String()] = true
		b := a.AsSlice()
		o.bytes[string(b)] = true
		if a.Is4() {
			o.bytes[string([]byte{b[3], b[2], b[1], b[0]})] = true
		}
	}
	number := func(key string, n uint64) {
		o.fields[fmt.Sprintf("%q:%d", key, n)] = n != 0
		o.texts[strconv.FormatUint(n, 10)] = n > 1<<20 // smaller ones are everywhere
	}
	tuple := func(t events.Tuple) { addr(t.Src); addr(t.Dst) }
	for i := range c.Events {
		e := &c.Events[i]
		number("netns", uint64(e.Netns))
		number("inode", uint64(e.Socket.Inode))
		number("pid", uint64(e.Socket.PID))
		o.texts["0x"+strconv.FormatUint(e.Location, 16)] = e.Location != 0
		comm, _, _ := bytes.Cut(e.Socket.Comm[:], []byte{0})
		o.texts[string(comm)] = true
		tuple(e.Header.Tuple)
		tuple(e.Header.Inner)
		tuple(e.CT.Original)
		tuple(e.CT.Reply)
		addr(e.Backend.Addr())
	}
	h := &c.Header
	for _, n := range h.Namespaces {
		for _, s := range []string{n.Name, n.Node, n.Pod} {
			o.texts[s] = true
		}
	}
	for _, d := range h.Devices {
		o.texts[d.Name] = !commonDevices.MatchString(d.Name)
		for _, a := range d.Addrs {
			addr(a)
		}
	}
	for _, a := range h.Addresses {
		o.texts[a.Pod], o.texts[a.Service], o.texts[a.Node] = true, true, true
	}
	for _, p := range h.Processes {
		o.texts[p.Comm] = true
		number("inode", uint64(p.Inode))
		number("pid", uint64(p.PID))
	}
	delete(o.texts, "")
	return o
}

// found lists the originals that are in an output.
func (o *originals) found(text, raw []byte) (found []string) {
	for b := range o.bytes {
		if bytes.Contains(text, []byte(b)) || bytes.Contains(raw, []byte(b)) {
			found = append(found, fmt.Sprintf("% x", b))
		}
	}
	words := map[string]bool{}
	for _, w := range regexp.MustCompile(`[0-9A-Za-z_.:/-]+`).FindAllString(string(text), -1) {
		words[w] = true
		for _, part := range strings.FieldsFunc(w, func(c rune) bool { return c == '/' || c == ':' }) {
			words[part] = true
		}
	}
	for s, yes := range o.texts {
		if yes && words[s] && s != "pod" && s != "node" { // these are keys of JSON
			found = append(found, s)
		}
	}
	fields := map[string]bool{}
	for _, f := range regexp.MustCompile(`"[a-z]+":[0-9]+`).FindAllString(string(text), -1) {
		fields[f] = true
	}
	for f, yes := range o.fields {
		if yes && fields[f] {
			found = append(found, f)
		}
	}
	return found
}

// encode writes a capture with everything that its names answer, and its events
// byte by byte.
func encode(t *testing.T, c *events.Capture, evs []events.Event, names events.Names) (text, raw []byte) {
	t.Helper()
	var b, dump bytes.Buffer
	h := events.NewCaptureHeader(c.Hooks, names, evs)
	if err := events.WriteCapture(&b, &h, evs); err != nil {
		t.Fatal(err)
	}
	for i := range evs {
		binaryDump(&dump, reflect.ValueOf(evs[i]))
	}
	return b.Bytes(), dump.Bytes()
}

func binaryDump(b *bytes.Buffer, v reflect.Value) {
	switch a := v.Interface().(type) {
	case netip.Addr:
		b.Write(a.AsSlice())
		return
	case netip.AddrPort:
		b.Write(a.Addr().AsSlice())
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			binaryDump(b, v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			binaryDump(b, v.Index(i))
		}
	case reflect.Uint64:
		_ = binary.Write(b, binary.BigEndian, v.Uint())
	default:
		_ = binary.Write(b, binary.LittleEndian, v.Interface())
	}
}

// packetOf makes the bytes of an event's packet, with its addresses.
func packetOf(h *events.Header) []byte {
	if !h.Src.Is4() || !h.Dst.Is4() || h.Proto != protoTCP {
		return nil
	}
	b := make([]byte, 60)
	b[0], b[9], b[32] = 0x45, h.Proto, 5<<4
	be.PutUint16(b[2:], uint16(len(b)))
	src, dst := h.Src.As4(), h.Dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	be.PutUint16(b[20:], h.SrcPort)
	be.PutUint16(b[22:], h.DstPort)
	copy(b[40:], "GET /secret HTTP/1.1")
	return b
}

// TestNothingOriginalIsLeft looks for every address, name, process, inode and
// kernel address in what is written of redacted events.
func TestNothingOriginalIsLeft(t *testing.T) {
	looked := 0
	for name, c := range captures(t, "6.12-case*.jsonl") {
		for i := range c.Events {
			if e := &c.Events[i]; e.Ext == events.ExtHeader {
				e.Bytes = packetOf(&e.Header)
			}
		}
		o := collect(c)
		o.bytes["GET "] = true
		if n := len(o.found(encode(t, c, c.Events, c.Names))); n < (len(o.texts)+len(o.bytes)+len(o.fields))/2 {
			t.Fatalf("%s: only %d originals found where nothing is redacted", name, n)
		}
		r := New(Key{5})
		if left := o.found(encode(t, c, redacted(r, c.Events), r.Names(c.Names))); len(left) > 0 {
			t.Errorf("%s: left: %q", name, left)
		}
		looked += len(o.texts) + len(o.bytes) + len(o.fields)
	}
	t.Logf("looked for %d originals", looked)
}

// TestSameKeySamePseudonyms: two nodes with one key agree, in whatever order
// they meet things; another key says something else.
func TestSameKeySamePseudonyms(t *testing.T) {
	c := captures(t, "6.12-case7.jsonl")["6.12-case7.jsonl"]
	one, two, other := New(Key{1}), New(Key{1}), New(Key{2})
	evs := redacted(one, c.Events)
	differ := 0
	for i := len(evs) - 1; i >= 0; i-- {
		e, x := c.Events[i], c.Events[i]
		two.Event(&e)
		other.Event(&x)
		if !reflect.DeepEqual(e, evs[i]) {
			t.Fatalf("event %d: %+v on one node, %+v on the other", i, evs[i], e)
		}
		if !reflect.DeepEqual(x, evs[i]) {
			differ++
		}
	}
	if differ != len(evs) {
		t.Errorf("%d of %d events are the same with another key", len(evs)-differ, len(evs))
	}
	if one.Object("n1") != two.Object("n1") || one.Object("n1") == other.Object("n1") {
		t.Error("words do not depend on the key alone")
	}
}

// TestNoAllocation: in steady state an event costs no allocation.
func TestNoAllocation(t *testing.T) {
	c := captures(t, "6.12-case7.jsonl")["6.12-case7.jsonl"]
	r := New(Key{1})
	for i := range c.Events {
		c.Events[i].Bytes = packetOf(&c.Events[i].Header)
	}
	all := func() {
		for i := range c.Events {
			e := c.Events[i]
			e.Link = events.Link{Src: [6]byte{2, 3}, Dst: [6]byte{4, 5}, Hash: 17}
			r.Event(&e)
		}
	}
	all()
	if n := testing.AllocsPerRun(10, all); n != 0 {
		t.Errorf("%v allocations for %d events", n, len(c.Events))
	}
}

// TestCachesAreBounded: a scan of addresses does not fill the memory.
func TestCachesAreBounded(t *testing.T) {
	r := New(Key{1})
	var a [4]byte
	for i := range uint32(maxCached + 100) {
		binary.BigEndian.PutUint32(a[:], 0x08000000+i)
		r.addrs.put(netip.AddrFrom4(a), netip.AddrFrom4(a))
		if len(r.addrs) > maxCached {
			t.Fatalf("%d entries", len(r.addrs))
		}
	}
}

func BenchmarkEvent(b *testing.B) {
	c := captures(b, "6.12-case7.jsonl")["6.12-case7.jsonl"]
	r := New(Key{1})
	for i := 0; b.Loop(); i++ {
		e := c.Events[i%len(c.Events)]
		r.Event(&e)
	}
}
