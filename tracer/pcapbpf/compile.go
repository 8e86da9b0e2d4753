// SPDX-License-Identifier: Apache-2.0

// Package pcapbpf compiles packet selections of package pcapexpr to a BPF
// subprogram.
//
// The subprogram is called as int sel_match(const struct sel_input *in) and
// returns 1 for a packet that matches and 0 for one that does not. in lies on
// the stack of the caller:
//
//	struct sel_input {
//		__u8  hdr[128]; // from the network header on, anything beyond valid; hdr[0] is 0 if valid is
//		__u32 valid;    // available bytes of hdr, at most 128
//		__u32 len;      // bytes of the packet from the network header on
//		__s32 vlan;     // VLAN id (other bits of the tag do not matter), or -1
//		__u16 src_sets; // bit i: the source is in set i of the expression
//		__u16 dst_sets; // the same for the destination
//	};
//
// All of it must be initialised and it must be aligned to four bytes. Numbers
// are in host byte order. The 14 bytes of link header that the primitive len
// counts are added by the subprogram.
//
// Older kernels, 5.10 among them, refuse to read the stack of a caller at an
// offset they do not know, so every place a header of variable length can be at
// is a case of its own in the code.
package pcapbpf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// Layout of struct sel_input, in bytes.
const (
	// InputSize is the size of struct sel_input.
	InputSize = 144

	offValid = 128
	offLen   = 132
	offVLAN  = 136

	offSrcSets = 140
	offDstSets = 142
)

// MaxSets is how many sets an expression may ask for.
const MaxSets = 8

// MaxInstructions is how large a compiled subprogram may get.
const MaxInstructions = 4096

// ErrTooLarge is wrapped by the error [Compile] returns for an expression that
// needs more instructions or more stack than a subprogram may have, or more sets.
var ErrTooLarge = errors.New("filter expression too large")

// Registers with a fixed use; R0 and R2 to R5 are scratch.
const (
	regIn      = asm.R1 // struct sel_input
	regVersion = asm.R6 // version nibble of the packet
	regValid   = asm.R7 // available bytes
	regAvail   = asm.R8 // available bytes from the transport header on, may be negative
	regL4      = asm.R9 // one word of the transport header, as a number
	regA       = asm.R2 // where a number is computed
	regB       = asm.R3
	regC       = asm.R4
	regD       = asm.R0
)

// compiler holds the state of one compilation.
type compiler struct {
	program
	fail label // the packet is rejected as a whole

	// l4At is the node before which the transport header is fetched: it is
	// evaluated before everything that needs it. If l4Late is set it is fetched
	// only after the tests of the protocol in this node. l4Words are the words
	// that are fetched, the first into regL4, the others onto the stack.
	l4At    pcapexpr.Node
	l4Late  bool
	l4Words []int
	l4Ports bool // ports are looked at, so IPv6 counts too

	sets []*pcapexpr.Set // the i-th is told by bit i

	usesVersion, usesValid bool
	err                    error
}

// Compile returns the instructions of the subprogram for e, nil standing for
// every packet. They use R0 to R9 and at most 64 bytes of stack, call nothing,
// only jump forward, carry no symbols or references and end with Exit. The
// caller gives the first instruction the symbol and type of the subprogram.
//
// The sets of e are numbered as [pcapexpr.Expr.Sets] lists them. Which of them a
// packet's ends are in is not the subprogram's work: it is told.
func Compile(e *pcapexpr.Expr) (asm.Instructions, error) {
	root := reorder(e.Root())
	c := &compiler{sets: e.Sets()}
	if len(c.sets) > MaxSets {
		return nil, fmt.Errorf("%w: it has %d sets of addresses that may change, of at most %d", ErrTooLarge, len(c.sets), MaxSets)
	}
	c.planL4(root)
	yes := c.newLabel()
	c.fail = c.newLabel()
	c.gen(root, facts{ver: ver4 | ver6 | verOther, proto: -1}, yes, c.fail, yes)
	c.bind(yes)
	c.emit(asm.Mov.Imm(asm.R0, 1), asm.Return())
	c.bind(c.fail)
	c.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	if c.err != nil {
		return nil, c.err
	}

	var start asm.Instructions
	if c.usesVersion {
		start = append(start, asm.LoadMem(regVersion, regIn, 0, asm.Byte), asm.RSh.Imm(regVersion, 4))
	}
	if c.usesValid {
		start = append(start, asm.LoadMem(regValid, regIn, offValid, asm.Word))
	}
	insns := append(start, c.finish()...)
	if len(insns) > MaxInstructions {
		return nil, fmt.Errorf("%w: it needs %d instructions of at most %d; use fewer primitives, or constant offsets in brackets",
			ErrTooLarge, len(insns), MaxInstructions)
	}
	return insns, nil
}

// reorder puts cheap conditions first where the order makes no difference: among
// conditions that must all hold for a packet to match, a false one and a
// rejected packet come to the same.
func reorder(n pcapexpr.Node) pcapexpr.Node {
	and, ok := n.(*pcapexpr.AndNode)
	if !ok {
		return n
	}
	kids := slices.Clone(and.Kids)
	slices.SortStableFunc(kids, func(a, b pcapexpr.Node) int { return cost(a) - cost(b) })
	return &pcapexpr.AndNode{Kids: kids}
}

// cost ranks nodes by the work they make.
func cost(n pcapexpr.Node) int {
	sum := func(kids []pcapexpr.Node) int {
		total := 0
		for _, k := range kids {
			total += cost(k)
		}
		return total
	}
	switch n := n.(type) {
	case *pcapexpr.VersionNode, *pcapexpr.SetNode:
		return 1
	case *pcapexpr.VLANNode, *pcapexpr.MulticastNode:
		return 2
	case *pcapexpr.ProtoNode:
		return 3
	case *pcapexpr.NetNode:
		if n.Is6 {
			return 5
		}
		return 4
	case *pcapexpr.PortNode:
		return 20
	case *pcapexpr.RelNode:
		if len(n.Checks()) == 0 {
			return 3
		}
		return 25
	case *pcapexpr.NotNode:
		return cost(n.Kid)
	case *pcapexpr.AndNode:
		return sum(n.Kids)
	case *pcapexpr.OrNode:
		return sum(n.Kids)
	}
	return 0
}

// gen emits code that jumps to yes or no depending on n, or to c.fail. next is
// the label that will be bound directly behind this code. f is known before; what
// is known at yes and at no is returned.
func (c *compiler) gen(n pcapexpr.Node, f facts, yes, no, next label) (fy, fn facts) {
	if n == c.l4At && !c.l4Late {
		c.fetchL4(f)
	}
	switch n := n.(type) {
	case *pcapexpr.ConstNode:
		if n.Value {
			c.jump(yes, next)
			return f, facts{dead: true}
		}
		c.jump(no, next)
		return facts{dead: true}, f
	case *pcapexpr.NotNode:
		fn, fy = c.gen(n.Kid, f, no, yes, next)
		return fy, fn
	case *pcapexpr.AndNode:
		return c.genAnd(n.Kids, f, yes, no, next)
	case *pcapexpr.OrNode:
		return c.genOr(n.Kids, f, yes, no, next)
	case *pcapexpr.VersionNode:
		fn = facts{dead: true}
		c.wantVersion(&f, n.V, no, &fn)
		c.jump(yes, next)
		return f, fn
	case *pcapexpr.VLANNode:
		return c.genVLAN(n, f, yes, no, next)
	case *pcapexpr.MulticastNode:
		return c.genMulticast(n, f, yes, no, next)
	case *pcapexpr.NetNode:
		return c.genNet(n, f, yes, no, next)
	case *pcapexpr.ProtoNode:
		return c.genProto(n, f, yes, no, next)
	case *pcapexpr.PortNode:
		return c.genPorts([]pcapexpr.Node{n}, f, yes, no, next)
	case *pcapexpr.RelNode:
		return c.genRel(n, f, yes, no, next)
	case *pcapexpr.SetNode:
		return c.genSet(n, f, yes, no, next)
	}
	c.err = fmt.Errorf("compiling a filter expression: unknown node %T", n)
	return f, f
}

func (c *compiler) genAnd(kids []pcapexpr.Node, f facts, yes, no, next label) (fy, fn facts) {
	fn = facts{dead: true}
	for i, k := range kids {
		var kn facts
		if i == len(kids)-1 {
			f, kn = c.gen(k, f, yes, no, next)
		} else {
			then := c.newLabel()
			f, kn = c.gen(k, f, then, no, then)
			c.bind(then)
		}
		fn = fn.merge(kn)
	}
	return f, fn
}

func (c *compiler) genOr(kids []pcapexpr.Node, f facts, yes, no, next label) (fy, fn facts) {
	fy = facts{dead: true}
	for i := 0; i < len(kids); {
		// Ports side by side share the tests of what comes before the ports.
		n := max(1, samePorts(kids[i:]))
		other, following := no, next
		if i+n < len(kids) {
			other = c.newLabel()
			following = other
		}
		var ky facts
		if n > 1 {
			if kids[i] == c.l4At && !c.l4Late {
				c.fetchL4(f)
			}
			ky, f = c.genPorts(kids[i:i+n], f, yes, other, following)
		} else {
			ky, f = c.gen(kids[i], f, yes, other, following)
		}
		if other != no {
			c.bind(other)
		}
		fy = fy.merge(ky)
		i += n
	}
	return fy, f
}

// samePorts returns how many of the first kids are ports of one protocol.
func samePorts(kids []pcapexpr.Node) int {
	first, ok := kids[0].(*pcapexpr.PortNode)
	if !ok {
		return 0
	}
	n := 1
	for n < len(kids) {
		if p, ok := kids[n].(*pcapexpr.PortNode); !ok || p.Proto != first.Proto {
			break
		}
		n++
	}
	return n
}
