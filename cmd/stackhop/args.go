// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// splitCommand cuts the arguments at the first "--". What stands behind it is a
// command of its own, none of whose flags are ours.
func splitCommand(args []string) (words, command []string, dashes bool) {
	i := slices.Index(args, "--")
	if i < 0 {
		return args, nil, false
	}
	return args[:i], args[i+1:], true
}

// flagsFirst moves flags in front of the other arguments of a command, because
// people write "trace port 80 -o json", as tcpdump lets them, while the flag
// package stops at the first word that is not a flag. No word of a filter
// expression looks like a flag.
func flagsFirst(app *cli.App, args []string) []string {
	at := slices.IndexFunc(args, func(s string) bool { return !strings.HasPrefix(s, "-") })
	if at < 0 {
		return args
	}
	cmd := app.Command(args[at])
	if cmd == nil {
		return args
	}
	valued := map[string]bool{}
	for _, f := range cmd.Flags {
		_, isBool := f.(*cli.BoolFlag)
		if g, ok := f.(*cli.GenericFlag); ok {
			_, isBool = g.Value.(*optional)
		}
		for _, name := range f.Names() {
			valued[name] = !isBool
		}
	}
	rest, flags := []string(nil), slices.Clone(args[:at+1])
	args = args[at+1:]
	var tail []string
	if n := len(args) - 1; n >= 0 && args[n] == askCompletion { // must stay the last
		args, tail = args[:n], args[n:]
	}
	for i := 0; i < len(args); i++ {
		word := args[i]
		if !looksLikeFlag(word) {
			rest = append(rest, word)
			continue
		}
		flags = append(flags, word)
		name, _, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if valued[name] && !hasValue && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	return slices.Concat(flags, rest, tail)
}

// looksLikeFlag tells "-o" and "--for" from the "-" and "-4" of an expression.
func looksLikeFlag(s string) bool {
	name := strings.TrimLeft(s, "-")
	return len(name) < len(s) && name != "" && (name[0] >= 'a' && name[0] <= 'z' || name[0] >= 'A' && name[0] <= 'Z')
}

// optional is the value of a flag that may stand without one: --flag, or
// --flag=VALUE.
type optional struct {
	given bool
	value string // empty: none given
}

// IsBoolFlag lets the flag package do without a value.
func (*optional) IsBoolFlag() bool { return true }

// Set is called with "true" where there is no value.
func (o *optional) Set(s string) error {
	o.given = true
	if s != "true" {
		o.value = s
	}
	return nil
}

func (o *optional) String() string { return o.value }

// optionalOf returns the value of an optional flag.
func optionalOf(c *cli.Context, name string) *optional {
	if o, ok := c.Generic(name).(*optional); ok {
		return o
	}
	return &optional{}
}

// parseSize reads a number of bytes such as 64M.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKMGiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s is not a size: give bytes, or 64k, 16M, 1G", quoted(s))
	}
	shift := 0
	switch strings.TrimSuffix(strings.TrimSuffix(s[len(digits):], "B"), "i") {
	case "":
	case "k", "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	default:
		return 0, fmt.Errorf("%s is not a size: give bytes, or 64k, 16M, 1G", quoted(s))
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%s is more than any disk holds", quoted(s))
	}
	return n << shift, nil
}
