// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// condition is a device's state in one word or two.
func (d *Device) condition() string {
	switch {
	case !d.Up:
		return "down"
	case d.State == "down" || d.State == "lowerlayerdown":
		return "no carrier"
	case d.State == "up" || d.State == "unknown": // lo, dummies and tunnels know of no carrier
		return "up"
	}
	return events.Safe(d.State)
}

// traits are what is worth saying of a device beside its name and addresses.
func (d *Device) traits() []string {
	kind := d.Kind
	if kind == "" {
		kind = "device"
	}
	out := []string{events.Safe(kind), d.condition(), fmt.Sprintf("mtu %d", d.MTU)}
	if t := d.Tunnel; t != nil {
		if t.ID != 0 {
			out = append(out, fmt.Sprintf("id %d", t.ID))
		}
		if t.Port != 0 {
			out = append(out, fmt.Sprintf("port %d", t.Port))
		}
		if t.Local.IsValid() {
			out = append(out, "local "+t.Local.String())
		}
		if t.Remote.IsValid() {
			out = append(out, "remote "+t.Remote.String())
		}
	}
	return out
}

// links are the other devices that a device of a namespace hangs together with.
func (d *Device) links(netns uint32) []string {
	var out []string
	if d.Peer != nil {
		out = append(out, "↔ "+d.Peer.label(netns))
	}
	if d.Lower != nil {
		out = append(out, "over "+d.Lower.label(netns))
	}
	return out
}

// shownAddresses is how many addresses of a device are shown where there are
// many: kube-ipvs0 holds those of all services, which are listed as such.
const shownAddresses = 12

// usual are a device's addresses but for the link-local ones, which say nothing
// about the node: JSON alone has them.
func (d *Device) usual() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range d.Addresses {
		if !a.Addr().IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}

// addresses are the first few addresses, and how many more there are.
func (d *Device) addresses(most int) []string {
	var out []string
	all := d.usual()
	for _, a := range all[:min(len(all), most)] {
		out = append(out, a.String())
	}
	if more := len(all) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return out
}

// address is one that tells the device from others, and how many more there are.
func (d *Device) address() string {
	all := d.usual()
	if len(all) == 0 {
		return ""
	}
	best := all[0]
	if i := slices.IndexFunc(all, func(p netip.Prefix) bool { return p.Addr().Is4() }); i >= 0 {
		best = all[i]
	}
	if more := len(all) - 1; more > 0 {
		return fmt.Sprintf("%s +%d", best, more)
	}
	return best.String()
}

// shownRoutes are a namespace's routes but for those to link-local addresses,
// which each device has.
func (n *Namespace) shownRoutes() []Route {
	return slices.DeleteFunc(slices.Clone(n.Routes), func(r Route) bool {
		return r.Dst.Addr().IsLinkLocalUnicast() || r.Dst.Addr().IsMulticast()
	})
}

// text is a route as `ip route` writes it, more or less.
func (r *Route) text() string {
	words := []string{}
	if r.Type != "" {
		words = append(words, events.Safe(r.Type))
	}
	if r.Dst.Bits() == 0 {
		words = append(words, "default")
	} else {
		words = append(words, r.Dst.String())
	}
	for _, h := range r.Hops {
		if len(r.Hops) > 1 {
			words = append(words, "nexthop")
		}
		words = append(words, h.words()...)
	}
	if r.Src.IsValid() {
		words = append(words, "src", r.Src.String())
	}
	if r.Metric != 0 {
		words = append(words, "metric", strconv.Itoa(r.Metric))
	}
	return strings.Join(words, " ")
}

func (h *Hop) words() []string {
	var words []string
	if h.Via.IsValid() {
		words = append(words, "via", h.Via.String())
	}
	if h.Node != "" {
		words = append(words, "("+events.Safe(h.Node)+")")
	}
	if h.Device != "" {
		words = append(words, "dev", events.Safe(h.Device))
	}
	if h.Onlink {
		words = append(words, "onlink")
	}
	if h.Weight != 0 {
		words = append(words, "weight", strconv.Itoa(h.Weight))
	}
	return words
}

// text is a service in one line, without its destinations.
func (s *Service) text() string {
	where := fmt.Sprintf("fwmark %d", s.FWMark)
	if s.FWMark == 0 {
		where = events.Safe(s.Proto) + " " + netip.AddrPortFrom(s.IP, s.Port).String()
	}
	out := where + named(s.Name, s.Stale) + ", " + events.Safe(s.Scheduler)
	if s.Persistent != 0 {
		out += fmt.Sprintf(", persistent %d s", s.Persistent)
	}
	if why := s.dead(); why != "" {
		out += ", " + why
	}
	return out
}

// dead says why no new connection gets through, empty if one does.
func (s *Service) dead() string {
	switch {
	case len(s.Destinations) == 0:
		return "no destination"
	case !slices.ContainsFunc(s.Destinations, func(d Destination) bool { return d.Weight > 0 }):
		return "no destination has a weight"
	}
	return ""
}

func (d *Destination) text() string {
	out := fmt.Sprintf("→ %s%s, weight %d, %d active, %d inactive", netip.AddrPortFrom(d.IP, d.Port), named(d.Name, d.Stale), d.Weight, d.Active, d.Inactive)
	if d.Forward != "nat" {
		out += ", " + events.Safe(d.Forward)
	}
	return out
}

// named is a name behind an address.
func named(name string, stale bool) string {
	switch {
	case name == "":
		return ""
	case stale:
		return " " + events.Safe(name) + " (stale)"
	}
	return " " + events.Safe(name)
}

// plural is "1 port", "2 ports".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
