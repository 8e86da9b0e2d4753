// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// selection is what the user said about which packets to follow.
type selection struct {
	from, to, with []string
	namespace      string
	all            bool
	expression     string
	program        string // what the user calls it, with the command
}

func newSelection(a *app, c *cli.Context) selection {
	program := c.Command.HelpName
	if c.Command.Name == "record" {
		program += " -w FILE.hop"
	}
	return selection{
		from: c.StringSlice("from"), to: c.StringSlice("to"), with: c.StringSlice("with"),
		namespace: c.String("namespace"), all: c.Bool("all"), expression: strings.Join(c.Args().Slice(), " "),
		program: program,
	}
}

// errNoSelection teaches how to choose.
func errNoSelection(program string) error {
	return fmt.Errorf(`nothing is selected
  an address:       %[1]s --with 10.0.0.7
  two ends:         %[1]s --from 10.0.0.7 --to 10.96.0.10:53
  as with tcpdump:  %[1]s 'tcp port 80 and host 10.0.0.7'
  everything, which costs the node more:  %[1]s --all`, program)
}

// given says that something is selected beside all.
func (s *selection) given() bool {
	return len(s.from)+len(s.to)+len(s.with) > 0 || s.namespace != "" || s.expression != ""
}

// words are what the user said, as on a command line.
func (s *selection) words() (out []string) {
	for _, f := range []struct {
		flag string
		ends []string
	}{{"--from", s.from}, {"--to", s.to}, {"--with", s.with}} {
		if len(f.ends) > 0 {
			out = append(out, f.flag, strings.Join(f.ends, ","))
		}
	}
	if s.namespace != "" {
		out = append(out, "--namespace", s.namespace)
	}
	if s.expression != "" {
		out = append(out, s.expression)
	}
	return out
}

// needsNames says whether the words name pods, services or nodes.
func (s *selection) needsNames() bool {
	return s.namespace != "" || slices.ContainsFunc(slices.Concat(s.from, s.to, s.with), func(w string) bool {
		kind, _, ok := strings.Cut(w, "/")
		return ok && slices.Contains([]string{"pod", "svc", "service", "node"}, kind)
	})
}

// compile turns a selection into one expression; nil stands for all packets.
func (s *selection) compile(t *targets) (*pcapexpr.Expr, error) {
	switch {
	case s.all && s.given():
		return nil, errors.New("--all follows every packet: leave it out, or the rest of the selection")
	case s.all:
		return nil, nil //nolint:nilnil // documented
	case !s.given():
		return nil, errNoSelection(s.program)
	}
	x, err := s.ends(t)
	if err != nil {
		return nil, err
	}
	if s.expression != "" {
		parsed, err := pcapexpr.Parse(s.expression)
		if err != nil {
			return nil, explainExpression(s.expression, err)
		}
		x = pcapexpr.And(x, parsed)
	}
	return x, nil
}

// ends is the part of a selection that flags make. Which end of a connection
// sent a packet cannot be known from the packet alone, so that each condition
// is made for both directions.
func (s *selection) ends(t *targets) (*pcapexpr.Expr, error) {
	from, err := resolveAll(t, "--from", s.from)
	if err != nil {
		return nil, err
	}
	to, err := resolveAll(t, "--to", s.to)
	if err != nil {
		return nil, err
	}
	with, err := resolveAll(t, "--with", s.with)
	if err != nil {
		return nil, err
	}
	x := pcapexpr.All()
	switch {
	case from != nil && to != nil:
		x = pcapexpr.Or(
			pcapexpr.And(anyOf(from, end.source), anyOf(to, end.destination)),
			pcapexpr.And(anyOf(to, end.source), anyOf(from, end.destination)))
	case from != nil:
		x = eitherEnd(from)
	case to != nil:
		x = eitherEnd(to)
	}
	if with != nil {
		x = pcapexpr.And(x, eitherEnd(with))
	}
	// A namespace that completes the name of a pod or service has done its
	// work; otherwise it selects.
	if s.namespace != "" && !t.used {
		t.flag = "--namespace"
		inside, err := t.inNamespace()
		if err != nil {
			return nil, err
		}
		x = pcapexpr.And(x, eitherEnd(inside))
	}
	return x, nil
}

func resolveAll(t *targets, flag string, words []string) ([]end, error) {
	t.flag = flag
	var out []end
	for _, w := range words {
		ends, err := t.resolve(w)
		if err != nil {
			return nil, fmt.Errorf("%s %w", flag, err)
		}
		out = append(out, ends...)
	}
	return out, nil
}

// eitherEnd matches packets from or to any of the ends.
func eitherEnd(ends []end) *pcapexpr.Expr {
	return pcapexpr.Or(anyOf(ends, end.source), anyOf(ends, end.destination))
}

func anyOf(ends []end, match func(end) *pcapexpr.Expr) *pcapexpr.Expr {
	x := pcapexpr.None()
	for _, e := range ends {
		x = pcapexpr.Or(x, match(e))
	}
	return x
}

// explainExpression shows where an expression is wrong.
func explainExpression(expression string, err error) error {
	wrong, ok := errors.AsType[*pcapexpr.Error](err)
	if !ok {
		return fmt.Errorf("filter expression: %w", err)
	}
	// One character for each, so that the caret stays in its place.
	shown := strings.Map(func(r rune) rune {
		if r == '\n' || strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, wrong.Caret(expression))
	return fmt.Errorf("the filter expression is wrong:\n  %s", strings.ReplaceAll(shown, "\n", "\n  "))
}
