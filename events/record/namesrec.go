// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"

	"github.com/stackhop/stackhop/events"
)

// maxPorts is how many ports of one address have names of their own before
// what is asked next names all of them. A pod's address that was given to
// another pod would otherwise take a name for every port of a client.
const maxPorts = 64

// maxAsked is how many answers a map is kept for: emptying a larger one for each
// item would cost more than making another.
const maxAsked = 256

// NamesRecorder is the Names of a run that is recorded: it asks the run's own
// names, and writes down what a Reader would not answer in the same way. Like
// its Writer it is for one goroutine.
//
// What is asked between two items of a recording (events and ticks) is in
// force at the later one when it is replayed. So hand each event to the
// stitcher first, and then to Writer.Event; likewise each tick. A replay knows
// one answer to a question at each item. So the first one holds until then, even
// if the run's own names learn better, as they do beside the run.
type NamesRecorder struct {
	inner events.Names
	w     *Writer
	book  *book // what a reader knows by now
	key   []byte
	// What was asked since the last item: the book answers it.
	asked         map[question]struct{}
	askedRules    map[ruleKey]struct{}
	askedVirtuals map[virtualKey]struct{}
}

// question is what was asked: the method, and what it was given.
type question struct {
	of   asking
	n, m uint64
	ip   string
	node string
}

type asking uint8

const (
	askDevice asking = iota
	askNamespace
	askAddress
	askAnyPort // of an address
	askProcess
	askSymbol
	askReason
	askService
	askTask // the pod of a process
)

var _ events.Names = (*NamesRecorder)(nil)

func newNamesRecorder(inner events.Names, w *Writer) *NamesRecorder {
	return &NamesRecorder{inner: inner, w: w, book: newBook(), asked: map[question]struct{}{}, askedRules: map[ruleKey]struct{}{}, askedVirtuals: map[virtualKey]struct{}{}}
}

// first says whether something is asked for the first time since the last item.
func (r *NamesRecorder) first(q question) bool {
	if _, ok := r.asked[q]; ok {
		return false
	}
	r.asked[q] = struct{}{}
	return true
}

// item ends what belongs to an item, which the Writer has just added.
func (r *NamesRecorder) item() {
	if n := len(r.asked); n > maxAsked {
		r.asked = map[question]struct{}{}
	} else if n > 0 {
		clear(r.asked)
	}
	clear(r.askedRules)
	clear(r.askedVirtuals)
	if r.book.size > maxNames/2 {
		r.say(Name{Forget: true})
	}
}

// forget begins another recording, whose reader knows nothing.
func (r *NamesRecorder) forget() {
	r.book.forget()
	clear(r.asked)
	clear(r.askedRules)
	clear(r.askedVirtuals)
}

// say writes down a name. Where there is no room for it, a reader knows what it
// knew, and so it is answered here.
func (r *NamesRecorder) say(n Name) {
	if !n.Forget && r.book.size+n.cost() > maxNames {
		return
	}
	if r.w.name(&n) {
		_ = r.book.put(&n) // there is room for it
	}
}

// Device implements events.Names.
func (r *NamesRecorder) Device(netns, ifindex uint32) (events.Device, bool) {
	if r.w.err != nil {
		return r.inner.Device(netns, ifindex)
	}
	if r.first(question{of: askDevice, n: uint64(netns), m: uint64(ifindex)}) {
		d, ok := r.inner.Device(netns, ifindex)
		if was, known := r.book.Device(netns, ifindex); ok != known || (ok && !sameDevice(&d, &was)) {
			r.say(Name{Device: &DeviceName{
				Netns: netns, Ifindex: ifindex, Gone: !ok, Name: Text(d.Name), Kind: Text(d.Kind), Master: d.Master,
				PeerNetns: d.PeerNetns, PeerIfindex: d.PeerIfindex, Addrs: d.Addrs,
			}})
		}
	}
	return r.book.Device(netns, ifindex)
}

// Namespace implements events.Names.
func (r *NamesRecorder) Namespace(netns uint32) events.Namespace {
	if r.w.err != nil {
		return r.inner.Namespace(netns)
	}
	if r.first(question{of: askNamespace, n: uint64(netns)}) {
		if s := r.inner.Namespace(netns); s != r.book.Namespace(netns) {
			r.say(Name{Namespace: &NamespaceName{netns, Text(s.Name), Text(s.Kind), Text(s.Node), Text(s.Pod), s.Labels}})
		}
	}
	return r.book.Namespace(netns)
}

// Address implements events.Names.
func (r *NamesRecorder) Address(ip string, port uint16) events.AddressNames {
	if r.w.err != nil {
		return r.inner.Address(ip, port)
	}
	if r.first(question{of: askAddress, n: uint64(port), ip: ip}) {
		// A name at all ports would change what was answered for other ports.
		alone := r.first(question{of: askAnyPort, ip: ip})
		if a := r.inner.Address(ip, port); a != r.book.Address(ip, port) {
			n := &AddressName{IP: Text(ip), Pod: Text(a.Pod), Service: Text(a.Service), Node: Text(a.Node), Stale: a.Stale}
			if _, ok := r.book.addresses[addrKey{ip, -1}]; !alone || (ok && len(r.book.ports[ip]) < maxPorts) {
				n.Port = &port
			}
			r.say(Name{Address: n})
		}
	}
	return r.book.Address(ip, port)
}

// Process implements events.Names.
func (r *NamesRecorder) Process(inode uint32) (comm string, pid uint32, ok bool) {
	if r.w.err != nil {
		return r.inner.Process(inode)
	}
	if r.first(question{of: askProcess, n: uint64(inode)}) {
		comm, pid, ok := r.inner.Process(inode)
		if c, p, known := r.book.Process(inode); ok != known || (ok && (c != comm || p != pid)) {
			r.say(Name{Process: &ProcessName{inode, !ok, Text(comm), pid}})
		}
	}
	return r.book.Process(inode)
}

// Symbol implements events.Names.
func (r *NamesRecorder) Symbol(addr uint64) string {
	if r.w.err != nil {
		return r.inner.Symbol(addr)
	}
	if r.first(question{of: askSymbol, n: addr}) {
		if s := r.inner.Symbol(addr); s != r.book.Symbol(addr) {
			r.say(Name{Symbol: &SymbolName{addr, Text(s)}})
		}
	}
	return r.book.Symbol(addr)
}

// DropReason implements events.Names.
func (r *NamesRecorder) DropReason(reason uint32) string {
	if r.w.err != nil {
		return r.inner.DropReason(reason)
	}
	if r.first(question{of: askReason, n: uint64(reason)}) {
		if s := r.inner.DropReason(reason); s != r.book.DropReason(reason) {
			r.say(Name{Reason: &ReasonName{reason, Text(s)}})
		}
	}
	return r.book.DropReason(reason)
}

// What follows asks for what events mention, whether or not the stitcher ever
// does: another selection may want it, or another reader.

// device asks for a device, its bridge and its peer, if they are not known yet.
func (r *NamesRecorder) device(netns, ifindex uint32) {
	if _, ok := r.book.spaces[netns]; netns != 0 && !ok {
		r.Namespace(netns)
	}
	if _, ok := r.book.devices[devKey{netns, ifindex}]; netns == 0 || ifindex == 0 || ok {
		return
	}
	if d, ok := r.Device(netns, ifindex); ok {
		r.device(netns, d.Master)
		r.device(d.PeerNetns, d.PeerIfindex)
	}
}

// drop asks for the names of where and why a packet was dropped.
func (r *NamesRecorder) drop(location uint64, reason uint32) {
	if location != 0 {
		r.Symbol(location)
	}
	if reason != 0 {
		r.DropReason(reason)
	}
}

// socket asks for the owner of a socket.
func (r *NamesRecorder) socket(inode uint32) {
	if _, ok := r.book.processes[inode]; inode != 0 && !ok {
		r.Process(inode)
	}
}

// tuple asks for the names of a packet's ends.
func (r *NamesRecorder) tuple(t *events.Tuple) {
	src, dst := t.SrcPort, t.DstPort
	if t.Proto == protoICMP || t.Proto == protoICMPv6 { // the identifier of an echo
		src, dst = 0, 0
	}
	r.address(t.Src, src)
	r.address(t.Dst, dst)
}

const (
	protoICMP   = 1
	protoICMPv6 = 58
)

// address asks for an address, if no name of it is known yet.
func (r *NamesRecorder) address(a netip.Addr, port uint16) {
	if !a.IsValid() {
		return
	}
	r.key = a.AppendTo(r.key[:0])
	_, here := r.book.addresses[addrKey{string(r.key), int32(port)}]
	_, any := r.book.addresses[addrKey{string(r.key), -1}]
	if !here && !any {
		r.Address(string(r.key), port)
	}
}
