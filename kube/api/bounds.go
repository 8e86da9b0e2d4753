// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"slices"
)

// named says whether these are names that an object can have.
func named(names ...string) bool {
	return !slices.ContainsFunc(names, func(s string) bool { return s == "" || len(s) > maxName })
}

// bounded is a name, or empty if it cannot be one.
func bounded(s string) string {
	if len(s) > maxName {
		return ""
	}
	return s
}

func addr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// addAddr adds an address unless it is none, is there already, or there are enough.
func addAddr(list []netip.Addr, s string) []netip.Addr {
	if a, ok := addr(s); ok && len(list) < maxAddrs && !slices.Contains(list, a) {
		return append(list, a)
	}
	return list
}

// addPrefix is addAddr for a CIDR.
func addPrefix(list []netip.Prefix, s string) []netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err == nil && len(list) < maxAddrs && !slices.Contains(list, p) {
		return append(list, p)
	}
	return list
}

func port(n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		return 0, false
	}
	return uint16(n), true
}

// deref is what p points to, or instead.
func deref[T any](p *T, instead T) T {
	if p == nil {
		return instead
	}
	return *p
}
