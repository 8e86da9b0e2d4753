// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/stackhop/stackhop/scripts/internal/plot"
)

// deviceCounts are the veth pairs in a node, with both ends there, beside those
// of its two pods.
var deviceCounts = []int{1, 10, 100, 1000}

// withDevices does something with each number of devices on a pair's node.
func withDevices(do func(site benchSite, node *host, devices int) error) error {
	return withPair(func(p pairInfo) error {
		node := openHost(p.Node)
		defer node.close()
		have := 0
		for _, n := range deviceCounts {
			for ; have < n; have++ {
				node.veth(fmt.Sprintf("many%d", have), node, fmt.Sprintf("peer%d", have))
			}
			if node.err != nil {
				return node.err
			}
			if err := do(pairSite(p), node, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// devices is the time to attach, to detach, and until a new device is covered,
// against the devices there are.
func (g *growth) devices() (*plot.Chart, error) {
	c := &plot.Chart{Title: "Attaching against devices", X: "veth pairs on the node, beside those of two pods", Y: "time [s]", LogX: true,
		Note: g.note("from the tool's start until everything is attached; from Ctrl-C to the prompt; from a device's making to tc on it")}
	return c, withDevices(func(site benchSite, node *host, n int) error {
		var attach, detach, covered, floor []float64
		for range g.rounds {
			var cost benchCost
			var late time.Duration
			err := inNetns(node.name, func() error { // as on a node; the tool ends with the thread that starts it
				r, err := g.selecting(site, selectNothing).start()
				if err != nil {
					return err
				}
				late, err = coveredAfter(node)
				var stopped error
				cost, stopped = r.stop()
				return errors.Join(err, stopped)
			})
			if err != nil {
				return err
			}
			attach, detach, covered = append(attach, cost.Attach), append(detach, cost.Detach), append(covered, late.Seconds())
			least, err := leastCovered(node)
			if err != nil {
				return err
			}
			floor = append(floor, least.Seconds())
		}
		c.Add(plot.Point{Series: seriesAttach, X: float64(n), Y: median(attach)})
		c.Add(plot.Point{Series: seriesDetach, X: float64(n), Y: median(detach)})
		c.Add(plot.Point{Series: seriesCovered, X: float64(n), Y: median(covered)})
		if least := median(floor); least > 0 {
			c.Add(plot.Point{Series: seriesLeast, X: float64(n), Y: least})
		}
		g.tell("%d pairs of devices: attached in %.2f s, detached in %.2f s, a new one covered after %.0f ms; the devices read and four links made by themselves (0: there are no such links) in %.0f",
			n, median(attach), median(detach), 1000*median(covered), 1000*median(floor))
		return nil
	})
}

// Names of series that the table of targets looks for.
const (
	seriesAttach, seriesDetach, seriesCovered = "attach", "detach", "new device covered"
	seriesLeast                               = "of that, the least"
	seriesIdle                                = "CPU"
	seriesThrown                              = "of a reader that makes nothing of events"
	seriesLost, seriesShed                    = "events lost", "packets shed whole"
	seriesPeak, seriesResident                = "peak so far", "resident"
)

// coveredAfter makes a veth pair, and says how long after that both ends have
// programs on tc. The pair is gone when it returns.
func coveredAfter(node *host) (time.Duration, error) {
	begun := time.Now()
	node.veth("late", node, "tale")
	if node.err != nil {
		return 0, node.err
	}
	for _, name := range []string{"late", "tale"} {
		l, err := node.h.LinkByName(name)
		if err != nil {
			return 0, err
		}
		defer node.h.LinkDel(l) //nolint:errcheck // its peer goes with it
		for {
			ok, err := hasTC(node, l)
			if err != nil {
				return 0, err
			}
			if ok {
				break
			}
			if time.Since(begun) > time.Minute {
				return 0, fmt.Errorf("nothing on %s a minute after it was made", name)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return time.Since(begun), nil
}

// leastCovered is the time of the least way to cover a new veth pair: it is made, the
// devices are read once, and a program that returns at once is linked to its four sides.
// 0: the kernel has no such links (before 6.6).
func leastCovered(node *host) (took time.Duration, err error) {
	b := &bare{}
	p, err := b.load(bareKind{program: ebpf.SchedCLS}, "", bareNext)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	begun := time.Now()
	node.veth("late", node, "tale")
	if node.err != nil {
		return 0, node.err
	}
	late, err := node.h.LinkByName("late")
	if err != nil {
		return 0, err
	}
	defer node.h.LinkDel(late) //nolint:errcheck // its peer goes with it
	err = inNetns(node.name, func() error {
		devices, err := netlink.LinkList()
		if err != nil {
			return err
		}
		devices = slices.DeleteFunc(devices, func(l netlink.Link) bool { return l.Attrs().Name != "late" && l.Attrs().Name != "tale" })
		return b.cover(devices, p)
	})
	if b.tc > 0 {
		took = time.Since(begun)
	}
	return took, errors.Join(err, b.close())
}

// hasTC says whether programs are attached to both sides of a device, by link (6.6
// and later) or as filters.
func hasTC(node *host, l netlink.Link) (bool, error) {
	sides := 0
	err := inNetns(node.name, func() error {
		for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			if got, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: side}); err == nil && len(got.Programs) > 0 {
				sides++
			}
		}
		return nil
	})
	if err != nil || sides == 2 {
		return sides == 2, err
	}
	sides = 0
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if filters, err := node.h.FilterList(l, parent); err == nil && len(filters) > 0 {
			sides++
		}
	}
	return sides == 2, nil
}

// idleTime is how long nothing happens: CPU is counted in hundredths of a second.
const idleTime = 10 * time.Second

// idle is the CPU that the tool takes when nothing happens, against the devices there are.
func (g *growth) idle() (*plot.Chart, error) {
	c := &plot.Chart{Title: "CPU when nothing happens, against devices", X: "veth pairs on the node, beside those of two pods", Y: "CPU of one [%]", LogX: true,
		Note: g.note(fmt.Sprintf("everything selected, no traffic for %v", idleTime))}
	me, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return c, withDevices(func(site benchSite, _ *host, n int) error {
		for _, one := range []struct {
			series string
			way    benchWay
		}{{seriesIdle, g.selecting(site, selectAll)}, {seriesThrown, drainWay(me, site)}} {
			share, err := one.way.idle()
			if err != nil {
				return err
			}
			c.Add(plot.Point{Series: one.series, X: float64(n), Y: share})
			g.tell("%d pairs of devices: %.1f %% of a CPU when nothing happens, %s", n, share, one.way.name)
		}
		return nil
	})
}

// idle is the CPU that a way takes when nothing happens, in percent of one.
func (w benchWay) idle() (float64, error) {
	r, err := w.start()
	if err != nil {
		return 0, err
	}
	pid := r.proc.cmd.Process.Pid
	u0, s0 := cpuOf(pid)
	time.Sleep(idleTime)
	u1, s1 := cpuOf(pid)
	_, err = r.stop()
	return 100 * (u1 - u0 + s1 - s0) / idleTime.Seconds(), err
}
