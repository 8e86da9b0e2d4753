// SPDX-License-Identifier: Apache-2.0

package ruleset

// HasIPTables says whether tables that nft listed are iptables': by the names of
// tables and built-in chains, which iptables-nft always uses.
func (r *Ruleset) HasIPTables(v6 bool) bool {
	family := "ip"
	if v6 {
		family = "ip6"
	}
	for _, c := range r.base {
		hook, builtin := builtinHooks[c.name]
		if c.family == family && !c.legacy && builtin && hook == c.hook && iptablesTables[c.table] {
			return true
		}
	}
	return false
}

var iptablesTables = map[string]bool{"filter": true, "nat": true, "mangle": true, "raw": true, "security": true}
