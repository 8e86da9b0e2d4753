// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/stackhop/stackhop/events"
)

// Text is a string as it is written in JSON: valid UTF-8 as such, anything
// else as an array of one string in base64, so that no byte of it is changed.
type Text string

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal([][]byte{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		return json.Unmarshal(b, (*string)(t))
	}
	var a [1][]byte
	err := json.Unmarshal(b, &a)
	*t = Text(a[0])
	return err
}

// Name says what one of a run's numbers or addresses stands for, from a moment
// on. Exactly one of its pointers is set, or Forget.
type Name struct {
	// At is how many of the items (events and ticks) of the events block that
	// follows come before it. Writer and Reader keep it.
	At uint32 `json:"at,omitempty"`
	// Forget says that nothing that was said before holds any longer.
	Forget    bool           `json:"forget,omitempty"`
	Namespace *NamespaceName `json:"ns,omitempty"`
	Device    *DeviceName    `json:"dev,omitempty"`
	Address   *AddressName   `json:"addr,omitempty"`
	Process   *ProcessName   `json:"proc,omitempty"`
	Symbol    *SymbolName    `json:"sym,omitempty"`
	Reason    *ReasonName    `json:"reason,omitempty"`
	Service   *ServiceName   `json:"service,omitempty"`
	Task      *TaskName      `json:"task,omitempty"`
	Virtual   *VirtualName   `json:"virtual,omitempty"`
	Rule      *RuleName      `json:"rule,omitempty"`
}

// NamespaceName is an events.Namespace.
type NamespaceName struct {
	Netns uint32 `json:"netns"`
	Name  Text   `json:"name,omitempty"`
	Kind  Text   `json:"kind,omitempty"`
	Node  Text   `json:"node,omitempty"`
	Pod   Text   `json:"pod,omitempty"`
	// Labels are the pod's, by key.
	Labels events.Labels `json:"labels,omitempty"`
}

// DeviceName is an events.Device.
type DeviceName struct {
	Netns       uint32       `json:"netns"`
	Ifindex     uint32       `json:"if"`
	Gone        bool         `json:"gone,omitempty"` // it is not known any longer
	Name        Text         `json:"name,omitempty"`
	Kind        Text         `json:"kind,omitempty"`
	Master      uint32       `json:"master,omitempty"`
	PeerNetns   uint32       `json:"peer_netns,omitempty"`
	PeerIfindex uint32       `json:"peer_if,omitempty"`
	Addrs       []netip.Addr `json:"addrs,omitempty"`
}

// AddressName is an events.AddressNames.
type AddressName struct {
	IP Text `json:"ip"`
	// Port is where it is called so; nil: at any port that has no name of its
	// own, and those are forgotten.
	Port    *uint16 `json:"port,omitempty"`
	Pod     Text    `json:"pod,omitempty"`
	Service Text    `json:"svc,omitempty"`
	Node    Text    `json:"node,omitempty"`
	Stale   bool    `json:"stale,omitempty"`
}

// ProcessName names the owner of a socket.
type ProcessName struct {
	Inode uint32 `json:"inode"`
	Gone  bool   `json:"gone,omitempty"`
	Comm  Text   `json:"comm,omitempty"`
	PID   uint32 `json:"pid,omitempty"`
}

// SymbolName names an address of the kernel.
type SymbolName struct {
	Addr uint64 `json:"addr"`
	Name Text   `json:"name"`
}

// ReasonName names a value of enum skb_drop_reason.
type ReasonName struct {
	Reason uint32 `json:"reason"`
	Name   Text   `json:"name"`
}

// maxNames bounds what is held of names, in bytes as book counts them. A
// writer forgets everything and begins anew at half of it.
const maxNames = 16 << 20

// maxPendingNames bounds the names in one block. A writer's are fewer.
const maxPendingNames = 64 << 10

var (
	errTooManyNames = errors.New("more names than a recording may hold")
	errName         = errors.New("a name of several things at once")
)

type devKey struct{ netns, ifindex uint32 }

type addrKey struct {
	ip   string
	port int32 // -1: any
}

type process struct {
	comm string
	pid  uint32
}

// book holds the names that were told so far. Writer and Reader keep the same
// one: what a book does not answer, or answers otherwise than the run's own
// names do, is what a recording has to say.
type book struct {
	spaces    map[uint32]events.Namespace
	devices   map[devKey]events.Device
	addresses map[addrKey]events.AddressNames
	ports     map[string][]uint16 // ports with names of their own, by address
	processes map[uint32]process
	symbols   map[uint64]string
	reasons   map[uint32]string
	services  map[serviceKey]events.ServiceFacts
	tasks     map[uint32]string // pods, by process
	virtuals  map[virtualKey]VirtualName
	rules     map[ruleKey]events.RuleFacts
	size      int
}

var _ events.Names = (*book)(nil)

func newBook() *book {
	b := &book{}
	b.forget()
	return b
}

func (b *book) forget() {
	*b = book{
		spaces: map[uint32]events.Namespace{}, devices: map[devKey]events.Device{},
		addresses: map[addrKey]events.AddressNames{}, ports: map[string][]uint16{},
		processes: map[uint32]process{}, symbols: map[uint64]string{}, reasons: map[uint32]string{},
		services: map[serviceKey]events.ServiceFacts{}, tasks: map[uint32]string{},
		virtuals: map[virtualKey]VirtualName{},
		rules:    map[ruleKey]events.RuleFacts{},
	}
}

// put takes in what a Name says.
func (b *book) put(n *Name) error {
	if n.Forget {
		b.forget()
	}
	b.size += n.cost()
	if b.size > maxNames {
		b.forget()
		return errTooManyNames
	}
	said := 0
	if v := n.Namespace; v != nil {
		b.spaces[v.Netns] = events.Namespace{Name: string(v.Name), Kind: string(v.Kind), Node: string(v.Node), Pod: string(v.Pod), Labels: v.Labels}
		said++
	}
	if v := n.Device; v != nil {
		b.putDevice(v)
		said++
	}
	if v := n.Address; v != nil {
		b.putAddress(v)
		said++
	}
	if v := n.Process; v != nil {
		b.processes[v.Inode] = process{string(v.Comm), v.PID}
		if v.Gone {
			delete(b.processes, v.Inode)
		}
		said++
	}
	if v := n.Symbol; v != nil {
		b.symbols[v.Addr] = string(v.Name)
		said++
	}
	if v := n.Reason; v != nil {
		b.reasons[v.Reason] = string(v.Name)
		said++
	}
	if v := n.Service; v != nil {
		b.putService(v)
		said++
	}
	if v := n.Task; v != nil {
		b.tasks[v.PID] = string(v.Pod)
		said++
	}
	if v := n.Virtual; v != nil {
		b.putVirtual(v)
		said++
	}
	if v := n.Rule; v != nil {
		b.putRule(v)
		said++
	}
	if said > 1 {
		return errName
	}
	return nil // also of what only a later version knows
}

func (b *book) putDevice(v *DeviceName) {
	b.devices[devKey{v.Netns, v.Ifindex}] = events.Device{
		Name: string(v.Name), Kind: string(v.Kind), Master: v.Master,
		PeerNetns: v.PeerNetns, PeerIfindex: v.PeerIfindex, Addrs: v.Addrs,
	}
	if v.Gone {
		delete(b.devices, devKey{v.Netns, v.Ifindex})
	}
}

func (b *book) putAddress(v *AddressName) {
	ip, names := string(v.IP), events.AddressNames{Pod: string(v.Pod), Service: string(v.Service), Node: string(v.Node), Stale: v.Stale}
	if v.Port == nil {
		for _, p := range b.ports[ip] {
			delete(b.addresses, addrKey{ip, int32(p)})
		}
		delete(b.ports, ip)
		b.addresses[addrKey{ip, -1}] = names
		return
	}
	key := addrKey{ip, int32(*v.Port)}
	if _, ok := b.addresses[key]; !ok {
		b.ports[ip] = append(b.ports[ip], *v.Port)
	}
	b.addresses[key] = names
}

// cost is what a Name takes of maxNames: its strings, and 128 for the rest.
func (n *Name) cost() int {
	size := 128
	add := func(ts ...Text) {
		for _, t := range ts {
			size += len(t)
		}
	}
	if v := n.Namespace; v != nil {
		add(v.Name, v.Kind, v.Node, v.Pod, Text(v.Labels))
	}
	if v := n.Device; v != nil {
		add(v.Name, v.Kind)
		size += 64 + 24*len(v.Addrs)
	}
	if v := n.Address; v != nil {
		add(v.IP, v.IP, v.Pod, v.Service, v.Node)
	}
	if v := n.Process; v != nil {
		add(v.Comm)
	}
	if v := n.Symbol; v != nil {
		add(v.Name)
	}
	if v := n.Reason; v != nil {
		add(v.Name)
	}
	if v := n.Service; v != nil {
		add(v.IP, v.On, v.Name, v.PortName, v.Type, v.Policy)
		size += v.Endpoints.cost()
	}
	if v := n.Task; v != nil {
		add(v.Pod)
	}
	if v := n.Virtual; v != nil {
		add(v.IP)
		size += 64
	}
	if v := n.Rule; v != nil {
		size += v.cost()
	}
	return size
}

func (b *book) Device(netns, ifindex uint32) (events.Device, bool) {
	d, ok := b.devices[devKey{netns, ifindex}]
	return d, ok
}

func (b *book) Namespace(netns uint32) events.Namespace { return b.spaces[netns] }

func (b *book) Address(ip string, port uint16) events.AddressNames {
	if a, ok := b.addresses[addrKey{ip, int32(port)}]; ok {
		return a
	}
	return b.addresses[addrKey{ip, -1}]
}

func (b *book) Process(inode uint32) (string, uint32, bool) {
	p, ok := b.processes[inode]
	return p.comm, p.pid, ok
}

func (b *book) Symbol(addr uint64) string       { return b.symbols[addr] }
func (b *book) DropReason(reason uint32) string { return b.reasons[reason] }

func sameDevice(a, b *events.Device) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Master == b.Master &&
		a.PeerNetns == b.PeerNetns && a.PeerIfindex == b.PeerIfindex && slices.Equal(a.Addrs, b.Addrs)
}

// parseNames reads a block of names: a JSON object a line.
func parseNames(raw []byte, into []Name) ([]Name, error) {
	for line := range splitLines(raw) {
		var n Name
		if err := json.Unmarshal(line, &n); err != nil {
			return into, fmt.Errorf("a name: %w", err)
		}
		if len(into) >= maxPendingNames {
			return into, errTooManyNames
		}
		into = append(into, n)
	}
	return into, nil
}
