// SPDX-License-Identifier: Apache-2.0

package pcapexpr

// HeaderBytes is how many bytes of a packet, counted from the beginning of its
// network header, an expression can read.
const HeaderBytes = 128

// LinkBytes is what len adds to the network-layer length: the size of an
// Ethernet header, so that len is the number tcpdump shows.
const LinkBytes = 14

// IP protocol numbers the language gives a meaning of its own.
const (
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoICMP6    = 58
	protoSCTP     = 132
)

// ip6Header is the size in bytes of the IPv6 header without extensions.
const ip6Header = 40

// ip4Header is the size in bytes of the IPv4 header without options.
const ip4Header = 20

// Expr is a parsed expression. It is safe for concurrent use and immutable, but
// for the members of its sets. A nil *Expr matches every packet.
type Expr struct {
	root Node
}

// Root returns the syntax tree, which must not be modified. A [ConstNode] is
// only ever the root, never below another node.
func (e *Expr) Root() Node {
	if e == nil || e.root == nil {
		return &ConstNode{Value: true}
	}
	return e.root
}

// Node is a truth-valued part of an expression: one of the *…Node types of this
// package.
type Node interface{ isNode() }

// ConstNode is always true or always false.
type ConstNode struct{ Value bool }

// AndNode is true if all of its two or more Kids are; they are evaluated in
// order, and none of them is an AndNode.
type AndNode struct{ Kids []Node }

// OrNode is true if one of its two or more Kids is; they are evaluated in
// order, and none of them is an OrNode.
type OrNode struct{ Kids []Node }

// NotNode is true if Kid is false; Kid is not a NotNode.
type NotNode struct{ Kid Node }

// Dir says which end of a packet an address or a port is compared with.
type Dir uint8

// The ends of a packet.
const (
	DirEither Dir = iota // source or destination, in this order
	DirSrc
	DirDst
	DirBoth // source and destination, in this order
)

// NetNode compares addresses under a mask.
type NetNode struct {
	Dir Dir
	// Is6 selects IPv6; only packets of that version can match.
	Is6 bool
	// Addr and Mask are in network byte order; an IPv4 address uses the first
	// four bytes and leaves the others zero. Addr has no bits outside Mask.
	Addr, Mask [16]byte
}

// PortNode compares ports of TCP, UDP or SCTP with an inclusive range.
type PortNode struct {
	Dir Dir
	// Proto is the IP protocol number, or 0 for any of the three.
	Proto uint8
	// Lo and Hi are in host byte order and Lo ≤ Hi.
	Lo, Hi uint16
}

// ProtoNode compares the transport protocol.
type ProtoNode struct {
	// Family is 4 or 6 for that IP version only, or 0 for both.
	Family uint8
	// Num is the IP protocol number.
	Num uint8
}

// VersionNode is true for packets of IP version V, 4 or 6.
type VersionNode struct{ V uint8 }

// VLANNode is true for packets with a VLAN tag.
type VLANNode struct {
	// ID is the VLAN the tag must name, 0–4095, or -1 for any.
	ID int32
}

// MulticastNode is true for packets of IP version V, 4 or 6, to a multicast
// destination (for IPv4 also the broadcast and reserved addresses above
// 224.0.0.0, as in tcpdump).
type MulticastNode struct{ V uint8 }

// RelNode compares two numbers, unsigned. It is false for a packet that does
// not have one of the headers L and R read.
type RelNode struct {
	Op   RelOp
	L, R Arith
}

// RelOp is a comparison.
type RelOp uint8

// The comparisons.
const (
	RelEq RelOp = iota
	RelNe
	RelLt
	RelLe
	RelGt
	RelGe
)

// Arith is a number computed from a packet: a Num, Len, *Load or *Bin. All
// arithmetic is unsigned with 32 bits and wraps around.
type Arith interface{ isArith() }

// Num is a constant.
type Num uint32

// Len is the length of the packet in bytes: its network layer plus LinkBytes.
type Len struct{}

// Load reads a big-endian number from the packet.
type Load struct {
	Base Base
	// Index is the byte offset from the beginning of the header Base names.
	Index Arith
	// Size is 1, 2 or 4 bytes.
	Size uint8
}

// Bin combines two numbers; both are never constant, and a constant divisor is
// not 0, a constant shift count not above 31. Shifting by more gives 0;
// dividing by 0 rejects the packet.
type Bin struct {
	Op   BinOp
	L, R Arith
}

// BinOp is an arithmetic operation.
type BinOp uint8

// The arithmetic operations.
const (
	OpAdd BinOp = iota
	OpSub
	OpMul
	OpDiv
	OpMod
	OpAnd
	OpOr
	OpXor
	OpShl
	OpShr
)

// Base names the header a Load counts from.
type Base uint8

// The headers a Load can count from. Those above BaseICMP6 are IPv4 transport
// headers, read only in packets of their protocol that are not later fragments.
const (
	BaseIP Base = iota
	BaseIP6
	BaseICMP6 // directly behind the fixed IPv6 header
	BaseTCP
	BaseUDP
	BaseSCTP
	BaseICMP
	BaseIGMP
	BaseIGRP
	BasePIM
	BaseVRRP
	BaseCARP
)

// Transport returns the IP protocol number of an IPv4 transport header and
// whether b is one.
func (b Base) Transport() (proto uint8, ok bool) {
	if b <= BaseICMP6 {
		return 0, false
	}
	return protocols[baseNames[b]].num, true
}

// Check is a condition a packet must meet before a RelNode reads its bytes.
type Check struct {
	// Version is 4 or 6: the IP version.
	Version uint8
	// Proto, if not negative, is the protocol number: of the IPv4 header, or
	// of the next header field of the fixed IPv6 header.
	Proto int16
	// First asks that an IPv4 packet is not a later fragment.
	First bool
}

// Checks returns what must hold before r reads bytes, in the order in which it
// is tested.
func (r *RelNode) Checks() []Check {
	return appendChecks(appendChecks(nil, r.L), r.R)
}

func appendChecks(to []Check, a Arith) []Check {
	switch a := a.(type) {
	case *Bin:
		return appendChecks(appendChecks(to, a.L), a.R)
	case *Load:
		switch a.Base {
		case BaseIP:
			return append(appendChecks(to, a.Index), Check{Version: 4, Proto: -1})
		case BaseIP6:
			return append(appendChecks(to, a.Index), Check{Version: 6, Proto: -1})
		case BaseICMP6:
			return append(appendChecks(to, a.Index), Check{Version: 6, Proto: protoICMP6})
		}
		proto, _ := a.Base.Transport()
		// The order libpcap tests in: it decides whether a packet that is both
		// too short and of the wrong kind is rejected or merely does not match.
		to = append(to, Check{Version: 4, Proto: -1})
		to = appendChecks(to, a.Index)
		return append(to, Check{Version: 4, Proto: int16(proto), First: true})
	}
	return to
}

func (*ConstNode) isNode()     {}
func (*AndNode) isNode()       {}
func (*OrNode) isNode()        {}
func (*NotNode) isNode()       {}
func (*NetNode) isNode()       {}
func (*PortNode) isNode()      {}
func (*ProtoNode) isNode()     {}
func (*VersionNode) isNode()   {}
func (*VLANNode) isNode()      {}
func (*MulticastNode) isNode() {}
func (*RelNode) isNode()       {}

func (Num) isArith()   {}
func (Len) isArith()   {}
func (*Load) isArith() {}
func (*Bin) isArith()  {}
