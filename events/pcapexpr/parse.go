// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import "strings"

// maxDepth bounds how deeply the text of an expression may be nested, maxTree
// how deep the tree may get, which also grows without parentheses where and
// follows or. What String prints for a tree of maxTree is within maxDepth.
const (
	maxDepth = 200
	maxTree  = 100
)

// kindOf says what an operand such as 10.0.0.1 or 80 is.
type kindOf uint8

const (
	kindNone kindOf = iota // not said; an address is a host
	kindHost
	kindNet
	kindPort
	kindPortrange
	kindProto
)

var kindWords = map[string]kindOf{
	"host": kindHost, "net": kindNet, "port": kindPort,
	"portrange": kindPortrange, "proto": kindProto,
}

// quals are the qualifiers in front of an operand, which the operands behind it
// inherit.
type quals struct {
	ok    bool   // there are any
	proto string // ip, tcp and so on, or empty
	dir   Dir
	kind  kindOf
}

// parser walks over the tokens of one expression.
type parser struct {
	toks  []token
	at    int
	depth int
	sets  map[string]*Set // by name; nil: the language has none
}

// Parse parses an expression; the empty string matches everything. An error is
// always an *[Error].
func Parse(s string) (*Expr, error) { return parse(s, nil) }

// ParseSets is Parse for what String printed, with the sets in it: "src in NAME"
// and "dst in NAME" ask for one of that name, where a name ends before a space or
// a parenthesis. Each name is one set, at first without members; Expr.Sets lists
// them.
func ParseSets(s string) (*Expr, error) { return parse(s, map[string]*Set{}) }

func parse(s string, sets map[string]*Set) (*Expr, error) {
	toks, err := lex(s, sets != nil)
	if err != nil {
		return nil, err
	}
	if len(toks) == 1 {
		return All(), nil
	}
	p := &parser{toks: toks, sets: sets}
	n, _, err := p.expr(quals{})
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEOF {
		return nil, p.trailing(t)
	}
	if nodeDepth(n) > maxTree {
		return nil, errAt(0, "nested too deeply: and and or alternate, or operators are nested, more than %d levels deep", maxTree)
	}
	return &Expr{root: n}, nil
}

// nodeDepth returns how many levels n has.
func nodeDepth(n Node) int {
	var kids []Node
	switch n := n.(type) {
	case *AndNode:
		kids = n.Kids
	case *OrNode:
		kids = n.Kids
	case *NotNode:
		kids = []Node{n.Kid}
	case *RelNode:
		return 1 + max(arithDepth(n.L), arithDepth(n.R))
	}
	depth := 0
	for _, k := range kids {
		depth = max(depth, nodeDepth(k))
	}
	return depth + 1
}

func arithDepth(a Arith) int {
	switch a := a.(type) {
	case *Load:
		return 1 + arithDepth(a.Index)
	case *Bin:
		return 1 + max(arithDepth(a.L), arithDepth(a.R))
	}
	return 1
}

func (p *parser) peek() token { return p.toks[p.at] }

// peek2 returns the token behind the next one.
func (p *parser) peek2() token { return p.toks[min(p.at+1, len(p.toks)-1)] }

func (p *parser) next() token {
	t := p.toks[p.at]
	if t.kind != tokEOF {
		p.at++
	}
	return t
}

func (t token) isOp(text string) bool { return t.kind == tokOp && t.text == text }

// isJoin recognises an operator between primitives in either spelling.
func (t token) isJoin(word string) bool {
	return t.text == word && (t.kind == tokOp || t.kind == tokWord)
}

// show names a token in a message.
func (t token) show() string {
	if t.kind == tokEOF {
		return "the end of the expression"
	}
	if t.kind == tokEscape {
		return `"\` + t.text + `"`
	}
	return `"` + t.text + `"`
}

func (p *parser) enter(pos int) error {
	p.depth++
	if p.depth > maxDepth {
		return errAt(pos, "nested too deeply: at most %d levels are accepted", maxDepth)
	}
	return nil
}

// trailing is the error for a token that cannot follow a complete expression.
func (p *parser) trailing(t token) error {
	if why, ok := refused[t.text]; ok && t.kind == tokWord {
		return errAt(t.pos, "%q is not supported: %s", t.text, why)
	}
	return errAt(t.pos, "unexpected %s; and, or or the end of the expression is accepted here", t.show())
}

// expr parses operands joined by and and or, which bind equally strongly. left
// are the qualifiers the first operand inherits; those the next operand would
// inherit are returned.
func (p *parser) expr(left quals) (Node, quals, error) {
	n, q, err := p.operand(left)
	for err == nil {
		t := p.peek()
		var kid Node
		switch {
		case t.isJoin("and"):
			p.next()
			if kid, q, err = p.operand(q); err == nil {
				n = andNodes(n, kid)
			}
		case t.isJoin("or"):
			p.next()
			if kid, q, err = p.operand(q); err == nil {
				n = orNodes(n, kid)
			}
		default:
			return n, q, nil
		}
	}
	return nil, q, err
}

// operand parses one side of an and or or.
func (p *parser) operand(left quals) (Node, quals, error) {
	t := p.peek()
	if err := p.enter(t.pos); err != nil {
		return nil, left, err
	}
	defer func() { p.depth-- }()
	switch {
	case t.isJoin("not"):
		p.next()
		n, q, err := p.operand(left)
		if err != nil {
			return nil, q, err
		}
		return notNode(n), q, nil
	case p.startsArith():
		n, err := p.relation()
		return n, quals{}, err
	case t.isOp("("):
		p.next()
		n, _, err := p.expr(left)
		if err != nil {
			return nil, left, err
		}
		// What follows the parentheses inherits from what is before them.
		return n, left, p.closeParen()
	case t.kind == tokWord:
		return p.wordOperand(left)
	case t.kind == tokOp || t.kind == tokEOF:
		return nil, left, errAt(t.pos, "unexpected %s; accepted here: %s", t.show(), primitives)
	}
	return p.bareOperand(left)
}

// bareOperand parses an operand that inherits its qualifiers.
func (p *parser) bareOperand(left quals) (Node, quals, error) {
	t := p.peek()
	if !left.ok {
		hint := "host, net, port, portrange or proto"
		if t.kind == tokAddr4 || t.kind == tokAddr6 {
			hint = "host " + t.text + " or net " + t.text
		}
		return nil, left, errAt(t.pos, "%s needs a word that says what it is, such as %s: there is nothing before it to take that from", t.show(), hint)
	}
	n, err := p.value(left)
	return n, left, err
}

// wordOperand parses an operand that begins with a word.
func (p *parser) wordOperand(left quals) (Node, quals, error) {
	t := p.peek()
	if why, ok := refused[t.text]; ok {
		return nil, left, errAt(t.pos, "%q is not supported: %s", t.text, why)
	}
	switch t.text {
	case "vlan":
		n, err := p.vlan()
		return n, quals{}, err
	case "less", "greater":
		n, err := p.length()
		return n, quals{}, err
	case "src", "dst", "host", "net", "port", "portrange", "proto":
		return p.head("")
	case "and", "or":
		return nil, left, errAt(t.pos, "unexpected %s; accepted here: %s", t.show(), primitives)
	case "ip", "ip6":
		return p.protoOperand()
	}
	if _, ok := protocols[t.text]; ok {
		return p.protoOperand()
	}
	if left.ok {
		return p.bareOperand(left)
	}
	if strings.Contains(t.text, "-") {
		return nil, left, errAt(t.pos, "unknown word %q; to subtract, put spaces around the minus sign", t.text)
	}
	return nil, left, errAt(t.pos, "unknown word %q; accepted here: %s", t.text, primitives)
}

// protoOperand parses what begins with ip, tcp or the like.
func (p *parser) protoOperand() (Node, quals, error) {
	t := p.next()
	switch after := p.peek(); after.text {
	case "src", "dst", "host", "net", "port", "portrange", "proto":
		if after.kind == tokWord {
			return p.head(t.text)
		}
	case "multicast":
		if version, ok := map[string]uint8{"ip": 4, "ip6": 6}[t.text]; ok {
			p.next()
			return &MulticastNode{V: version}, quals{}, nil
		}
	case "broadcast":
		return nil, quals{}, errAt(after.pos, "broadcast is not supported: it needs the network mask of an interface; write dst host and the address")
	case "gateway", "protochain":
		return nil, quals{}, errAt(after.pos, "%q is not supported: %s", after.text, refused[after.text])
	}
	switch t.text {
	case "ip":
		return &VersionNode{V: 4}, quals{}, nil
	case "ip6":
		return &VersionNode{V: 6}, quals{}, nil
	}
	pr := protocols[t.text]
	return &ProtoNode{Family: pr.family, Num: pr.num}, quals{}, nil
}

func (p *parser) closeParen() error {
	if t := p.peek(); !t.isOp(")") {
		return errAt(t.pos, "unexpected %s; and, or or ) is accepted here", t.show())
	}
	p.next()
	return nil
}

// vlan parses vlan with or without a number.
func (p *parser) vlan() (Node, error) {
	p.next()
	t := p.peek()
	if t.kind != tokNum {
		return &VLANNode{ID: -1}, nil
	}
	if t.num > 4095 {
		return nil, errAt(t.pos, "VLAN %d does not exist: 0 to 4095 is accepted", t.num)
	}
	p.next()
	return &VLANNode{ID: int32(t.num)}, nil
}

// length parses less N and greater N, both of which include N.
func (p *parser) length() (Node, error) {
	word, t := p.next(), p.next()
	if t.kind != tokNum {
		return nil, errAt(t.pos, "unexpected %s; %s needs a length in bytes", t.show(), word.text)
	}
	op := RelLe
	if word.text == "greater" {
		op = RelGe
	}
	return &RelNode{Op: op, L: Len{}, R: Num(t.num)}, nil
}
