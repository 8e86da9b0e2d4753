// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// fickle are names that are others from time to time.
type fickle struct {
	now      int
	restless bool // also from one question to the next
	last     *events.ServiceEndpoints
}

// asked is called for each question.
func (f *fickle) asked() {
	if f.restless {
		f.now++
	}
}

func (f *fickle) text(s string) string {
	if f.now%3 == 0 {
		return ""
	}
	return fmt.Sprintf("%s-%d\xff\x1b<", s, f.now/7)
}

func (f *fickle) Device(netns, ifindex uint32) (events.Device, bool) {
	f.asked()
	if (f.now/5)%4 == 3 {
		return events.Device{}, false
	}
	return events.Device{
		Name: f.text("dev"), Kind: "veth", Master: ifindex, PeerNetns: netns, PeerIfindex: uint32(f.now / 9), //nolint:gosec // small
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{byte(f.now / 11)})},
	}, true
}
func (f *fickle) Namespace(netns uint32) events.Namespace {
	f.asked()
	return events.Namespace{Name: f.text("ns"), Kind: events.KindPod, Node: fmt.Sprint(netns), Pod: "ü\u2028\u202e", Labels: events.NewLabels(map[string]string{"app": fmt.Sprint(f.now / 3)})}
}
func (f *fickle) Address(ip string, port uint16) events.AddressNames {
	f.asked()
	if port%2 == 1 {
		return events.AddressNames{Service: f.text("svc " + ip)}
	}
	return events.AddressNames{Pod: f.text("pod " + ip), Node: "n", Stale: f.now%8 < 4}
}
func (f *fickle) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	f.asked()
	if (f.now/6)%4 == 2 {
		return events.ServiceFacts{}, false
	}
	return events.ServiceFacts{
		Name: f.text("service " + ip), Port: fmt.Sprint(port), Type: "NodePort", Policy: node, Affinity: proto == 6,
		Here: f.now % 3, Elsewhere: 1000, Terminating: int(port), NotReady: f.now % 2, Stale: f.now%10 < 5,
		Endpoints: f.endpoints(),
	}, true
}

// endpoints are others from time to time, the same pointer or not, or none.
func (f *fickle) endpoints() *events.ServiceEndpoints {
	if f.now%5 == 4 {
		return nil
	}
	if f.now%5 != 3 || f.last == nil {
		f.last = &events.ServiceEndpoints{LeftOut: f.now / 13}
		for i := range f.now / 7 % 3 {
			f.last.List = append(f.last.List, events.ServiceEndpoint{
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Node: f.text("node"), Zone: f.text("zone"),
				Ready: f.now%2 == 0, Serving: i == 1, Terminating: f.now%3 == 0,
			})
		}
	}
	return f.last
}

func (f *fickle) PodOfProcess(pid uint32) string {
	f.asked()
	return f.text(fmt.Sprint("pod of ", pid))
}
func (f *fickle) Process(inode uint32) (string, uint32, bool) {
	f.asked()
	return f.text("comm"), inode, (f.now/6)%3 != 0
}
func (f *fickle) Symbol(addr uint64) string {
	f.asked()
	return f.text("sym")
}
func (f *fickle) DropReason(reason uint32) string {
	f.asked()
	return f.text("REASON")
}

// asker asks names, a number of times at each item, and keeps the answers.
type asker struct {
	names   events.Names
	rnd     *rand.Rand
	answers []string
	ports   int
	most    int // questions at an item
}

func newAsker(names events.Names, ports, most int) *asker {
	return &asker{names: names, rnd: rand.New(rand.NewPCG(7, 8)), ports: ports, most: most} //nolint:gosec // a test repeats
}

func (a *asker) Tick(uint64)         { a.ask() }
func (a *asker) Event(*events.Event) { a.ask() }

func (a *asker) ask() {
	for range 1 + a.rnd.IntN(a.most) {
		n := uint32(a.rnd.IntN(3)) //nolint:gosec // small
		var s string
		switch a.rnd.IntN(8) {
		case 0:
			d, ok := a.names.Device(n, n)
			s = fmt.Sprint(d, ok)
		case 1:
			s = fmt.Sprint(a.names.Namespace(n))
		case 2:
			s = fmt.Sprint(a.names.Address(fmt.Sprintf("10.0.0.%d", n), uint16(a.rnd.IntN(a.ports)))) //nolint:gosec // small
		case 3:
			comm, pid, ok := a.names.Process(n)
			if !ok {
				comm, pid = "", 0 // what is said beside a no is not kept
			}
			s = fmt.Sprint(comm, pid, ok)
		case 4:
			s = a.names.Symbol(uint64(n))
		case 5:
			s = a.names.DropReason(n)
		case 6:
			f, ok := events.ServiceOf(a.names, fmt.Sprintf("10.0.0.%d", n), uint16(a.rnd.IntN(a.ports)), 6*uint8(n%2), fmt.Sprint("n", n)) //nolint:gosec // small
			e := f.Endpoints
			f.Endpoints = nil
			s = fmt.Sprint(f, ok)
			if e != nil {
				s += fmt.Sprint(*e)
			}
		case 7:
			s = events.PodOfProcess(a.names, n)
		}
		a.answers = append(a.answers, s)
	}
}

// TestNames: whoever asks the same at the same items of a recording gets the
// same answers, also of names that change all the time, between two items too.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		ports    int // few; more than an address may have by itself
		most     int // questions at an item
		restless bool
	}{{3, 4, false}, {400, 4, false}, {400, 60, false}, {3, 20, true}, {400, 60, true}, {400, 1000, true}} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			w := mixed(t, "6.12-case4.jsonl", 1, 1, 0)
			var buf bytes.Buffer
			wr, err := NewWriter(&buf, w.meta)
			if err != nil {
				t.Fatal(err)
			}
			inner := &fickle{restless: tt.restless}
			live := newAsker(wr.Names(inner), tt.ports, tt.most)
			for i := range w.events {
				inner.now++
				live.Event(&w.events[i])
				wr.Event(&w.events[i])
				if i%7 == 0 {
					live.Tick(uint64(i)) //nolint:gosec // not negative
					wr.Tick(uint64(i))   //nolint:gosec // not negative
				}
				if i%100 == 99 {
					if err := wr.Flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			live.ask()
			if err := wr.Close(&End{}); err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(&buf)
			if err != nil {
				t.Fatal(err)
			}
			again := newAsker(r.Names(), tt.ports, tt.most)
			if err := r.Run(again); err != nil {
				t.Fatal(err)
			}
			again.ask()
			for i, want := range live.answers {
				if again.answers[i] != want {
					t.Fatalf("answer %d is %q, not %q", i, again.answers[i], want)
				}
			}
		})
	}
}

// many are names of more processes than are held at once.
type many struct{ fickle }

func (*many) Process(inode uint32) (string, uint32, bool) {
	return fmt.Sprint("comm", inode), inode, true
}

// TestNamesForget: when there are too many names, both sides forget and go on.
func TestNamesForget(t *testing.T) {
	w := mixed(t, "6.12-case7.jsonl", 1, 1, 0)
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, w.meta)
	if err != nil {
		t.Fatal(err)
	}
	rec := wr.Names(&many{})
	const processes = 100_000
	for i := range uint32(processes) {
		rec.Process(i / 2) // may be known, and must not be forgotten because of the next
		rec.Process(i)
		if rec.book.size > maxNames {
			t.Fatalf("%d bytes of names are held", rec.book.size)
		}
		wr.Tick(uint64(i))
	}
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(&buf)
	if err != nil {
		t.Fatal(err)
	}
	c := &processChecker{t: t, r: r}
	if err := r.Run(c); err != nil {
		t.Fatal(err)
	}
	if c.n != processes || c.forgot == 0 {
		t.Errorf("%d ticks; forgotten %d times", c.n, c.forgot)
	}
}

// TestNamesTooMany: what one item asks beyond all bounds is answered live as it is
// when replayed.
func TestNamesTooMany(t *testing.T) {
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	rec := wr.Names(&many{})
	const processes = 200_000
	known := make([]bool, processes)
	for i := range uint32(processes) {
		_, _, known[i] = rec.Process(i)
	}
	wr.Tick(1)
	_, _, after := rec.Process(processes)
	wr.Tick(2)
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	if !known[0] || known[processes-1] || !after {
		t.Errorf("the first is known: %v, the last: %v, the one after: %v", known[0], known[processes-1], after)
	}
	r, err := NewReader(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(&knownChecker{t, r, known}); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := r.Names().Process(processes); !ok {
		t.Error("what was asked later is not known")
	}
}

type knownChecker struct {
	t     *testing.T
	r     *Reader
	known []bool
}

func (c *knownChecker) Event(*events.Event) {}
func (c *knownChecker) Tick(now uint64) {
	for i, want := range c.known {
		if _, _, ok := c.r.Names().Process(uint32(i)); now == 1 && ok != want { //nolint:gosec // small
			c.t.Fatalf("process %d is known: %v, not %v", i, ok, want)
		}
	}
}

type processChecker struct {
	t      *testing.T
	r      *Reader
	n      uint32
	forgot int
}

func (c *processChecker) Event(*events.Event) {}
func (c *processChecker) Tick(uint64) {
	for _, inode := range []uint32{c.n / 2, c.n} {
		if _, pid, ok := c.r.Names().Process(inode); !ok || pid != inode {
			c.t.Fatalf("at tick %d process %d is %d, %v", c.n, inode, pid, ok)
		}
	}
	c.n++
}
func (c *processChecker) Name(n *Name) {
	if n.Forget {
		c.forgot++
	}
}

// TestNotes: what events mention is named even if no stitcher asks.
func TestNotes(t *testing.T) {
	file := captures + "/6.12-case7.jsonl"
	c := readCapture(t, file)
	var buf bytes.Buffer
	w, err := NewWriter(&buf, metaOf(c))
	if err != nil {
		t.Fatal(err)
	}
	w.Names(c.Names)
	for i := range c.Events {
		w.Event(&c.Events[i])
	}
	if err := w.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	r := replay(t, buf.Bytes(), &counter{})
	n := r.Names()
	for _, ns := range c.Header.Namespaces {
		if got, want := n.Namespace(ns.Netns), c.Names.Namespace(ns.Netns); got != want {
			t.Errorf("namespace %d is %+v, not %+v", ns.Netns, got, want)
		}
	}
	for _, d := range c.Header.Devices {
		got, ok := n.Device(d.Netns, d.Ifindex)
		if want, _ := c.Names.Device(d.Netns, d.Ifindex); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("device %+v, not %+v", got, want)
		}
	}
	for _, a := range c.Header.Addresses {
		if got, want := n.Address(a.IP, a.Port), c.Names.Address(a.IP, a.Port); got != want {
			t.Errorf("%s is %+v, not %+v", a.IP, got, want)
		}
	}
	for i := range c.Events {
		if l := c.Events[i].Location; l != 0 && n.Symbol(l) != c.Names.Symbol(l) {
			t.Errorf("symbol %q, not %q", n.Symbol(l), c.Names.Symbol(l))
		}
	}
}

// TestNamesCopied: names go from a reader to a writer as they are, each at its
// item, which is how a recording is changed.
func TestNamesCopied(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 1, 1, 0)
	var first, second bytes.Buffer
	write := func(to io.Writer) (*Writer, error) { return NewWriter(to, w.meta) }
	wr, err := write(&first)
	if err != nil {
		t.Fatal(err)
	}
	inner := &fickle{}
	asks := newAsker(wr.Names(inner), 3, 4)
	for i := range w.events {
		inner.now++
		asks.Event(&w.events[i])
		wr.Event(&w.events[i])
	}
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	if wr, err = write(&second); err != nil {
		t.Fatal(err)
	}
	replay(t, first.Bytes(), &copier{wr})
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("a copy is not like its original")
	}
}

type copier struct{ *Writer }

var _ Sink = (*copier)(nil)

// SetChange hands on a change, which could be read and so can be written.
func (c copier) SetChange(s *SetChange) { _ = c.Writer.SetChange(s) }

// TestLongNames: a name that is too long is not told, and harms nothing.
func TestLongNames(t *testing.T) {
	w := mixed(t, "6.12-case7.jsonl", 1, 1, 0)
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, w.meta)
	if err != nil {
		t.Fatal(err)
	}
	rec := wr.Names(&long{})
	for i := range w.events {
		rec.Symbol(uint64(i))     //nolint:gosec // not negative
		rec.DropReason(uint32(i)) //nolint:gosec // small
		wr.Event(&w.events[i])
	}
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	var n counter
	r := replay(t, buf.Bytes(), &n)
	if got := r.Names().Symbol(1); n.events != len(w.events) || got != "" || r.Names().DropReason(5) != "short" {
		t.Errorf("%d events, a symbol of %d bytes, %q", n.events, len(got), r.Names().DropReason(5))
	}
}

// long are names that no name may be as long as, beside a short one.
type long struct{ fickle }

func (*long) Symbol(uint64) string     { return string(bytes.Repeat([]byte("x"), maxLine)) }
func (*long) DropReason(uint32) string { return "short" }
