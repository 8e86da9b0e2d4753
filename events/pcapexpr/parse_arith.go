// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"slices"
	"strings"
)

var relOps = map[string]RelOp{
	"=": RelEq, "!=": RelNe, "<": RelLt, "<=": RelLe, ">": RelGt, ">=": RelGe,
}

// relText is how the comparisons are printed, indexed by RelOp.
var relText = []string{"=", "!=", "<", "<=", ">", ">="}

var binOps = map[string]BinOp{
	"+": OpAdd, "-": OpSub, "*": OpMul, "/": OpDiv, "%": OpMod,
	"&": OpAnd, "|": OpOr, "^": OpXor, "<<": OpShl, ">>": OpShr,
}

// binText is how the operations are printed, indexed by BinOp.
var binText = []string{"+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"}

// precedence of the operations in tcpdump, a higher number binding more
// strongly. OpMod and OpXor have none.
var precedence = map[BinOp]int{
	OpOr: 1, OpAnd: 2, OpShl: 3, OpShr: 3, OpAdd: 4, OpSub: 4, OpMul: 5, OpDiv: 5,
}

// isArithOp says whether t can only follow a number.
func (t token) isArithOp() bool {
	if t.kind != tokOp {
		return false
	}
	_, bin := binOps[t.text]
	_, rel := relOps[t.text]
	return bin || rel
}

// startsArith decides whether a comparison begins here rather than a primitive.
func (p *parser) startsArith() bool {
	t := p.peek()
	switch t.kind {
	case tokNum:
		return p.peek2().isArithOp()
	case tokWord:
		if _, ok := constants[t.text]; ok || t.text == "len" {
			return true
		}
		return p.peek2().isOp("[")
	case tokOp:
		if t.text == "-" {
			return true
		}
		return t.text == "(" && p.toks[t.pair+1].isArithOp()
	}
	return false
}

// relation parses two numbers with a comparison between them.
func (p *parser) relation() (Node, error) {
	l, err := p.arith()
	if err != nil {
		return nil, err
	}
	t := p.peek()
	op, ok := relOps[t.text]
	if !ok || t.kind != tokOp {
		return nil, errAt(t.pos, "unexpected %s; a comparison (= != < <= > >=) or an operator (+ - * / %% & | ^ << >>) is accepted here", t.show())
	}
	p.next()
	r, err := p.arith()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.isArithOp() {
		return nil, errAt(t.pos, "unexpected %s: a comparison is not a number; join comparisons with and or or", t.show())
	}
	if a, ok := l.(Num); ok {
		if b, ok := r.(Num); ok {
			return &ConstNode{Value: op.holds(uint32(a), uint32(b))}, nil
		}
	}
	return &RelNode{Op: op, L: l, R: r}, nil
}

// arithOp is an operation of a chain and where it stands.
type arithOp struct {
	op  BinOp
	pos int
}

// arith parses a number with its operators.
func (p *parser) arith() (Arith, error) {
	if err := p.enter(p.peek().pos); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	var args []Arith
	var ops []arithOp
	negative := false
	for {
		a, neg, err := p.signedOperand()
		if err != nil {
			return nil, err
		}
		negative = negative || neg
		args = append(args, a)
		t := p.peek()
		op, ok := binOps[t.text]
		if !ok || t.kind != tokOp {
			break
		}
		p.next()
		ops = append(ops, arithOp{op, t.pos})
	}
	odd := slices.IndexFunc(ops, func(o arithOp) bool { return precedence[o.op] == 0 })
	if odd >= 0 && (len(ops) > 1 || negative) {
		return nil, errAt(ops[odd].pos, "%q beside another operator needs parentheses: its precedence in tcpdump is not what one expects", binText[ops[odd].op])
	}
	return foldChain(args, ops)
}

// signedOperand parses a number with any minus signs before it.
func (p *parser) signedOperand() (a Arith, negative bool, err error) {
	minus := 0
	pos := p.peek().pos
	for p.peek().isOp("-") {
		p.next()
		minus++
	}
	a, err = p.arithOperand()
	if err == nil && minus%2 == 1 {
		a, err = newBin(OpSub, Num(0), a, pos)
	}
	return a, minus > 0, err
}

// foldChain builds the tree of a chain: it splits at the last of its weakest
// operators, so that equal ones group from the left.
func foldChain(args []Arith, ops []arithOp) (Arith, error) {
	if len(ops) == 0 {
		return args[0], nil
	}
	split := 0
	for i, o := range ops {
		if precedence[o.op] <= precedence[ops[split].op] {
			split = i
		}
	}
	l, err := foldChain(args[:split+1], ops[:split])
	if err != nil {
		return nil, err
	}
	r, err := foldChain(args[split+1:], ops[split+1:])
	if err != nil {
		return nil, err
	}
	return newBin(ops[split].op, l, r, ops[split].pos)
}

// newBin builds an operation, computing it if it is constant.
func newBin(op BinOp, l, r Arith, pos int) (Arith, error) {
	b, constR := r.(Num)
	switch {
	case constR && b == 0 && (op == OpDiv || op == OpMod):
		return nil, errAt(pos, "division by zero")
	case constR && b > 31 && (op == OpShl || op == OpShr):
		return nil, errAt(pos, "shift by %d bits: 0 to 31 is accepted", b)
	}
	if a, ok := l.(Num); ok && constR {
		v, _ := op.apply(uint32(a), uint32(b))
		return Num(v), nil
	}
	return &Bin{Op: op, L: l, R: r}, nil
}

// arithOperand parses a number without operators around it.
func (p *parser) arithOperand() (Arith, error) {
	t := p.next()
	switch {
	case t.kind == tokNum:
		return Num(t.num), nil
	case t.isOp("("):
		a, err := p.arith()
		if err != nil {
			return nil, err
		}
		if c := p.peek(); !c.isOp(")") {
			return nil, errAt(c.pos, "unexpected %s; an operator or ) is accepted here", c.show())
		}
		p.next()
		return a, nil
	case t.kind == tokWord:
		if v, ok := constants[t.text]; ok {
			return Num(v), nil
		}
		if t.text == "len" {
			return Len{}, nil
		}
		if p.peek().isOp("[") {
			return p.load(t)
		}
		if strings.Contains(t.text, "-") {
			return nil, errAt(t.pos, "unknown constant %q; to subtract, put spaces around the minus sign", t.text)
		}
		return nil, errAt(t.pos, "%q is not a number; a number, len, a constant such as tcp-syn or bytes such as tcp[13] are accepted here", t.text)
	}
	return nil, errAt(t.pos, "unexpected %s; a number, len, a constant such as tcp-syn or bytes such as tcp[13] are accepted here", t.show())
}

// load parses the brackets behind base.
func (p *parser) load(base token) (Arith, error) {
	i := slices.Index(baseNames, base.text)
	if i < 0 {
		if why, ok := refused[base.text]; ok {
			return nil, errAt(base.pos, "%q is not supported: %s", base.text, why)
		}
		return nil, errAt(base.pos, "bytes of %q cannot be read; accepted before [ are %s", base.text, strings.Join(baseNames, ", "))
	}
	p.next()
	indexPos := p.peek().pos
	index, err := p.arith()
	if err != nil {
		return nil, err
	}
	l := &Load{Base: Base(i), Index: index, Size: 1}
	if p.peek().isOp(":") {
		p.next()
		t := p.next()
		if t.kind != tokNum || t.num != 1 && t.num != 2 && t.num != 4 {
			return nil, errAt(t.pos, "unexpected %s; a size of 1, 2 or 4 bytes is accepted here", t.show())
		}
		l.Size = uint8(t.num)
	}
	if t := p.peek(); !t.isOp("]") {
		return nil, errAt(t.pos, "unexpected %s; an operator, : and a size, or ] is accepted here", t.show())
	}
	p.next()
	return l, l.checkReach(indexPos)
}

// checkReach refuses a constant offset no packet can have available.
func (l *Load) checkReach(pos int) error {
	at, ok := l.Index.(Num)
	if !ok {
		return nil
	}
	limit := HeaderBytes - int64(l.Base.minOffset()) - int64(l.Size)
	if int64(at) > limit {
		return errAt(pos, "offset %d is out of reach: only the first %d bytes from the network header are available, so %s[..:%d] accepts 0 to %d",
			at, HeaderBytes, baseNames[l.Base], l.Size, limit)
	}
	return nil
}

// minOffset returns the smallest distance in bytes of the header from the
// beginning of the network header.
func (b Base) minOffset() int {
	switch b {
	case BaseIP, BaseIP6:
		return 0
	case BaseICMP6:
		return ip6Header
	}
	return ip4Header
}
