// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"fmt"
	"strconv"
	"strings"
)

// String returns the expression in a form [Parse] turns into an equal one, with
// all inherited qualifiers written out. It is empty for [All]. Only with a [Set],
// which is called by its name, it takes [ParseSets].
func (e *Expr) String() string {
	var b strings.Builder
	printNode(&b, e.Root())
	return b.String()
}

func printNode(b *strings.Builder, n Node) {
	switch n := n.(type) {
	case *ConstNode:
		if !n.Value {
			b.WriteString("0 = 1")
		}
	case *AndNode:
		printKids(b, n.Kids, " and ")
	case *OrNode:
		printKids(b, n.Kids, " or ")
	case *NotNode:
		b.WriteString("not ")
		printKid(b, n.Kid)
	case *NetNode:
		printNet(b, n)
	case *PortNode:
		printPort(b, n)
	case *SetNode:
		b.WriteString(n.Dir.words() + "in " + n.Set.name)
	case *ProtoNode:
		printProto(b, n)
	case *VersionNode:
		b.WriteString(versionWord(n.V))
	case *MulticastNode:
		b.WriteString(versionWord(n.V) + " multicast")
	case *VLANNode:
		b.WriteString("vlan")
		if n.ID >= 0 {
			fmt.Fprintf(b, " %d", n.ID)
		}
	case *RelNode:
		printArith(b, n.L)
		b.WriteString(" " + relText[n.Op] + " ")
		printArith(b, n.R)
	}
}

func printKids(b *strings.Builder, kids []Node, sep string) {
	for i, k := range kids {
		if i > 0 {
			b.WriteString(sep)
		}
		printKid(b, k)
	}
}

// printKid puts parentheses around everything that is joined, because and and
// or bind equally strongly.
func printKid(b *strings.Builder, n Node) {
	switch n.(type) {
	case *AndNode, *OrNode:
		b.WriteByte('(')
		printNode(b, n)
		b.WriteByte(')')
	default:
		printNode(b, n)
	}
}

func (d Dir) words() string {
	switch d {
	case DirSrc:
		return "src "
	case DirDst:
		return "dst "
	case DirBoth:
		return "src and dst "
	}
	return ""
}

func versionWord(v uint8) string {
	if v == 6 {
		return "ip6"
	}
	return "ip"
}

func printNet(b *strings.Builder, n *NetNode) {
	b.WriteString(n.Dir.words())
	addr, bits, contiguous := n.prefix()
	if contiguous && bits == addr.BitLen() {
		fmt.Fprintf(b, "host %s", addr)
		return
	}
	b.WriteString("net " + n.network())
}

func printPort(b *strings.Builder, n *PortNode) {
	switch n.Proto {
	case protoTCP:
		b.WriteString("tcp ")
	case protoUDP:
		b.WriteString("udp ")
	case protoSCTP:
		b.WriteString("sctp ")
	}
	b.WriteString(n.Dir.words())
	if n.Lo == n.Hi {
		fmt.Fprintf(b, "port %d", n.Lo)
		return
	}
	fmt.Fprintf(b, "portrange %d-%d", n.Lo, n.Hi)
}

func printProto(b *strings.Builder, n *ProtoNode) {
	for _, w := range []string{"tcp", "udp", "sctp", "icmp", "icmp6"} {
		if protocols[w] == (protocol{n.Family, n.Num}) {
			b.WriteString(w)
			return
		}
	}
	if n.Family != 0 {
		b.WriteString(versionWord(n.Family) + " ")
	}
	fmt.Fprintf(b, "proto %d", n.Num)
}

func printArith(b *strings.Builder, a Arith) {
	switch a := a.(type) {
	case Num:
		b.WriteString(strconv.FormatUint(uint64(a), 10))
	case Len:
		b.WriteString("len")
	case *Load:
		b.WriteString(baseNames[a.Base] + "[")
		printArith(b, a.Index)
		if a.Size != 1 {
			fmt.Fprintf(b, ":%d", a.Size)
		}
		b.WriteByte(']')
	case *Bin:
		printOperand(b, a.L)
		b.WriteString(" " + binText[a.Op] + " ")
		printOperand(b, a.R)
	}
}

// printOperand puts parentheses around every operation inside another.
func printOperand(b *strings.Builder, a Arith) {
	if _, ok := a.(*Bin); !ok {
		printArith(b, a)
		return
	}
	b.WriteByte('(')
	printArith(b, a)
	b.WriteByte(')')
}
