// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// maxL4Words is how many words of the transport header are fetched at most: one
// in a register, the others in half of the stack.
const maxL4Words = 9

const (
	minIHL = 5  // header length of IPv4 without options, in words
	maxIHL = 15 // header length of IPv4 with all options
	ip6IHL = ip6Size / 4
)

// planL4 finds out what of the transport header is needed, and where first.
func (c *compiler) planL4(root pcapexpr.Node) {
	c.collectL4(root)
	if c.l4Ports {
		// The ports go to the register.
		c.l4Words = append([]int{0}, slices.DeleteFunc(c.l4Words, func(w int) bool { return w == 0 })...)
	}
	c.l4Words = c.l4Words[:min(len(c.l4Words), maxL4Words)]
	if len(c.l4Words) > 0 {
		c.l4At, c.l4Late = firstL4(root)
	}
}

func (c *compiler) collectL4(n pcapexpr.Node) {
	switch n := n.(type) {
	case *pcapexpr.AndNode:
		for _, k := range n.Kids {
			c.collectL4(k)
		}
	case *pcapexpr.OrNode:
		for _, k := range n.Kids {
			c.collectL4(k)
		}
	case *pcapexpr.NotNode:
		c.collectL4(n.Kid)
	case *pcapexpr.PortNode:
		c.l4Ports = true
	case *pcapexpr.RelNode:
		for _, w := range append(l4WordsOf(n.L), l4WordsOf(n.R)...) {
			if !slices.Contains(c.l4Words, w) {
				c.l4Words = append(c.l4Words, w)
			}
		}
	}
}

// l4WordsOf returns the words of the transport header read at constant offsets.
func l4WordsOf(a pcapexpr.Arith) []int {
	switch a := a.(type) {
	case *pcapexpr.Bin:
		return append(l4WordsOf(a.L), l4WordsOf(a.R)...)
	case *pcapexpr.Load:
		at, constant := a.Index.(pcapexpr.Num)
		if !constant {
			return l4WordsOf(a.Index)
		}
		if _, ok := a.Base.Transport(); !ok {
			return nil
		}
		first, last := int(at)/4, (int(at)+int(a.Size)-1)/4
		if first == last {
			return []int{first}
		}
		return []int{first, last}
	}
	return nil
}

func usesL4(n pcapexpr.Node) bool {
	switch n := n.(type) {
	case *pcapexpr.AndNode:
		return slices.ContainsFunc(n.Kids, usesL4)
	case *pcapexpr.OrNode:
		return slices.ContainsFunc(n.Kids, usesL4)
	case *pcapexpr.NotNode:
		return usesL4(n.Kid)
	case *pcapexpr.PortNode:
		return true
	case *pcapexpr.RelNode:
		return len(l4WordsOf(n.L))+len(l4WordsOf(n.R)) > 0
	}
	return false
}

// firstL4 returns the innermost node that is evaluated before, or is, every
// node that uses the transport header. late says that the header is not needed
// where the tests that precede its use in this node fail.
func firstL4(n pcapexpr.Node) (first pcapexpr.Node, late bool) {
	var kids []pcapexpr.Node
	_, isAnd := n.(*pcapexpr.AndNode)
	switch n := n.(type) {
	case *pcapexpr.AndNode:
		kids = n.Kids
	case *pcapexpr.OrNode:
		kids = n.Kids
	case *pcapexpr.NotNode:
		kids = []pcapexpr.Node{n.Kid}
	default:
		return n, true
	}
	i := slices.IndexFunc(kids, usesL4)
	if slices.ContainsFunc(kids[i+1:], usesL4) {
		return kids[i], isAnd && isLeaf(kids[i])
	}
	return firstL4(kids[i])
}

func isLeaf(n pcapexpr.Node) bool {
	switch n.(type) {
	case *pcapexpr.AndNode, *pcapexpr.OrNode, *pcapexpr.NotNode:
		return false
	}
	return true
}

// fetchL4 puts the needed words of the transport header where they are used
// from, and the number of available bytes in regAvail. The words are garbage
// where regAvail says that they are not available. One case for every length of
// the IPv4 header; IPv6 counts as a header of ten words.
func (c *compiler) fetchL4(f facts) {
	c.usesValid = true
	if f.ver == ver6 {
		c.copyL4(ip6IHL)
		c.emit(asm.Mov.Imm(regAvail, -ip6Size), asm.Add.Reg(regAvail, regValid))
		c.emit(asm.HostTo(asm.BE, regL4, asm.Word))
		return
	}
	c.emit(load(regAvail, 0, asm.Byte), asm.And.Imm(regAvail, 15))
	lengths := []int{minIHL}
	if c.l4Ports && f.ver&ver6 != 0 {
		four := c.newLabel()
		c.usesVersion = true
		c.jumpIf(cmp(asm.JNE, regVersion, 6), four)
		c.emit(asm.Mov.Imm(regAvail, ip6IHL))
		c.bind(four)
		lengths = append(lengths, ip6IHL)
	}
	for n := minIHL + 1; n <= maxIHL; n++ {
		if !slices.Contains(lengths, n) {
			lengths = append(lengths, n)
		}
	}
	done := c.newLabel()
	for _, n := range lengths {
		c.copyL4(n)
		c.jumpIf(cmp(asm.JEq, regAvail, int32(n)), done)
	}
	// The header length is impossible: nothing is available behind it.
	c.emit(asm.Mov.Imm(regAvail, pcapexpr.HeaderBytes/4))
	c.bind(done)
	c.emit(asm.Mul.Imm(regAvail, -4), asm.Add.Reg(regAvail, regValid))
	c.emit(asm.HostTo(asm.BE, regL4, asm.Word))
}

// copyL4 fetches the words for a header of n words. A word beyond the prefix
// keeps what it was: it is not available.
func (c *compiler) copyL4(n int) {
	for slot, w := range c.l4Words {
		at := 4 * (n + w)
		switch {
		case at+4 > pcapexpr.HeaderBytes:
		case slot == 0:
			c.emit(load(regL4, at, asm.Word))
		default:
			c.emit(load(regA, at, asm.Word), asm.StoreMem(asm.RFP, l4Slot(slot), regA, asm.Word))
		}
	}
}

// l4Slot returns the offset from the frame pointer of a word on the stack.
func l4Slot(slot int) int16 { return int16(-4 * slot) }

// genPorts goes to yes if one of the ports matches; all are of one protocol.
func (c *compiler) genPorts(kids []pcapexpr.Node, f facts, yes, no, next label) (fy, fn facts) {
	fn = facts{dead: true}
	proto := kids[0].(*pcapexpr.PortNode).Proto
	if !f.ports || proto != 0 && f.proto != int16(proto) {
		c.wantPorts(proto, &f, no, &fn)
	}
	if kids[0] == c.l4At && c.l4Late {
		c.fetchL4(f)
	}
	fy = facts{dead: true}
	for i, k := range kids {
		n := k.(*pcapexpr.PortNode)
		other, following := no, next
		if i < len(kids)-1 {
			other = c.newLabel()
			following = other
		}
		var ky facts
		ky, f = c.genPort(n, f, yes, other, following)
		fy = fy.merge(ky)
		if other != no {
			c.bind(other)
		}
	}
	return fy, fn.merge(f)
}

// wantPorts goes to no unless the packet has a transport header with ports, of
// protocol proto if that is not 0.
func (c *compiler) wantPorts(proto uint8, f *facts, no label, fn *facts) {
	four, common := c.newLabel(), c.newLabel()
	v6 := *f
	v6.ver &= ver6
	if f.ver&ver6 != 0 {
		if f.ver != ver6 {
			c.usesVersion = true
			c.jumpIf(cmp(asm.JNE, regVersion, 6), four)
		}
		c.need(&v6, ip6Next+1)
		c.emit(load(regA, ip6Next, asm.Byte))
		c.jump(common, -1)
	} else {
		v6 = facts{dead: true}
	}
	c.bind(four)
	f.ver &^= ver6
	if f.ver != 0 {
		c.wantVersion(f, 4, no, fn)
		c.need(f, ip4Proto+1)
		if !f.first {
			*fn = fn.merge(*f)
			c.emit(load(regA, ip4Frag, asm.Half))
			c.jumpIf(cmp(asm.JSet, regA, fragOffset), no)
			f.first = true
		}
		c.emit(load(regA, ip4Proto, asm.Byte))
	} else {
		f.dead = true
	}
	c.bind(common)
	v6.first = true // there is nothing to know for IPv6
	*f = f.merge(v6)
	*fn = fn.merge(*f)
	f.ports = true
	if proto != 0 {
		c.jumpIf(cmp(asm.JNE, regA, int32(proto)), no)
		f.proto = int16(proto)
		return
	}
	found := c.newLabel()
	c.jumpIf(cmp(asm.JEq, regA, 6), found)
	c.jumpIf(cmp(asm.JEq, regA, 17), found)
	c.jumpIf(cmp(asm.JNE, regA, 132), no)
	c.bind(found)
}

// genPort compares the ports of a packet that has some.
func (c *compiler) genPort(n *pcapexpr.PortNode, f facts, yes, no, next label) (fy, fn facts) {
	then := c.newLabel()
	switch n.Dir {
	case pcapexpr.DirSrc:
		c.needL4(&f, 2)
		c.genPortEnd(n, true, yes, no, next)
	case pcapexpr.DirDst:
		c.needL4(&f, 4)
		c.genPortEnd(n, false, yes, no, next)
	case pcapexpr.DirBoth:
		c.needL4(&f, 2)
		fn = f
		c.genPortEnd(n, true, then, no, then)
		c.bind(then)
		c.needL4(&f, 4)
		c.genPortEnd(n, false, yes, no, next)
		return f, fn
	default:
		c.needL4(&f, 2)
		fy = f
		c.genPortEnd(n, true, yes, then, then)
		c.bind(then)
		c.needL4(&f, 4)
		c.genPortEnd(n, false, yes, no, next)
		return fy, f
	}
	return f, f
}

// genPortEnd compares the source or the destination port.
func (c *compiler) genPortEnd(n *pcapexpr.PortNode, src bool, yes, no, next label) {
	c.emit(asm.Mov.Reg(regA, regL4))
	if src {
		c.emit(asm.RSh.Imm(regA, 16))
	} else {
		c.emit(asm.And.Imm(regA, 0xffff))
	}
	if n.Lo == n.Hi {
		c.branch(cmp(asm.JEq, regA, int32(n.Lo)), yes, no, next)
		return
	}
	// A port below the range becomes huge.
	c.emit(asm.Sub.Imm(regA, int32(n.Lo)))
	c.branch(cmp(asm.JLE, regA, int32(n.Hi-n.Lo)), yes, no, next)
}
