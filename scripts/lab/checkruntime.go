// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

const (
	// exchanges is how often each long-lived pod asks each other one.
	exchanges = 5
	// briefPods is how many pods come and go, each for briefLife.
	briefPods = 3
	briefLife = 300 * time.Millisecond
	// runtimePatience bounds all that is asked of the runtime. A pod takes a few
	// seconds under emulation, ten times that on a busy machine.
	runtimePatience = 12 * time.Minute
)

// A runtimeCheck is the check of names that only the container runtime knows: no
// names file, no API server.
type runtimeCheck struct {
	*podRuntime
	web, client, agent runtimePod
	made               []runtimePod // to be removed
	brief              []runtimePod
}

// containerRuntime: the packets of pods are named, whether the pods were there
// before the tool or live for a moment only, also the packets of a pod in the
// node's own namespace.
func (c *checker) containerRuntime() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), runtimePatience)
	defer cancel()
	if text, err := os.ReadFile("/run/booted"); err == nil {
		c.fact("the guest had booted after %s s", strings.Fields(string(text))[0])
	}
	start := time.Now()
	r := &runtimeCheck{}
	if r.podRuntime, err = runtimeUp(ctx); err != nil {
		return err
	}
	c.fact("the container runtime was up after %.1f s", time.Since(start).Seconds())
	defer func() { err = errors.Join(err, r.clear(), r.Close()) }()
	start = time.Now()
	if err := r.makePods(ctx); err != nil {
		return err
	}
	c.fact("3 pods were up after %.1f s", time.Since(start).Seconds())
	s, err := tool{path: c.tool.path}.start("--all")
	if err != nil {
		return err
	}
	s.timer.Reset(runtimePatience)
	if err := errors.Join(r.talk(ctx, c), s.interrupt()); err != nil {
		return err
	}
	all, err := s.traversals()
	if err != nil {
		return err
	}
	counts, faults := r.compare(all)
	for _, want := range r.expected() {
		if got := counts[want.way]; got < want.least {
			faults = append(faults, fmt.Sprintf("%s: %d packets seen, want %d or more", want.way, got, want.least))
		}
		c.fact("%s: %d packets", want.way, counts[want.way])
	}
	more, err := r.selected(ctx, c)
	return errors.Join(err, faultsError(append(faults, more...)))
}

// selected: a pod selected by its name is followed to the address that it has
// when it was made anew, and nobody else is.
func (r *runtimeCheck) selected(ctx context.Context, c *checker) (faults []string, err error) {
	s, err := tool{path: c.tool.path}.start("--from", "pod/test/client", "--to", "pod/shop/web")
	if err != nil {
		return nil, err
	}
	s.timer.Reset(runtimePatience)
	was := r.client
	if err := errors.Join(r.restart(ctx), s.interrupt()); err != nil {
		return nil, err
	}
	all, err := s.traversals()
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, t := range all {
		ends := []string{t.Src.IP, t.Dst.IP}
		switch {
		case slices.Contains(ends, r.web.IP) && slices.Contains(ends, was.IP):
			counts["before"]++
		case slices.Contains(ends, r.web.IP) && slices.Contains(ends, r.client.IP):
			counts["after"]++
		default:
			faults = append(faults, fmt.Sprintf("was not selected: %s → %s: %s", address(t.Src), address(t.Dst), t.Summary))
		}
	}
	c.fact("selected by name: %d packets, and %d once the pod was made anew", counts["before"], counts["after"])
	if counts["before"] != 2*exchanges || counts["after"] < 2 || was.IP == r.client.IP {
		faults = append(faults, fmt.Sprintf("%d packets of the pod at %s were seen, want %d, and %d at %s, want some",
			counts["before"], was.IP, 2*exchanges, counts["after"], r.client.IP))
	}
	return faults, nil
}

// restart makes the client anew, between what it sends to two others. How soon
// its new address is known is the runtime's affair, so it goes on for a while.
func (r *runtimeCheck) restart(ctx context.Context) error {
	send := func(count int, to runtimePod) error {
		return r.exec(ctx, r.client, "send", "-count", fmt.Sprint(count), "udp", to.IP+":7")
	}
	if err := errors.Join(send(exchanges, r.web), send(exchanges, r.agent), r.remove(ctx, r.client)); err != nil {
		return err
	}
	r.made = slices.DeleteFunc(r.made, func(p runtimePod) bool { return p.UID == r.client.UID })
	var err error
	if r.client, err = r.run(ctx, podSpec{namespace: "test", name: "client"}); err != nil {
		return err
	}
	r.made = append(r.made, r.client)
	for range exchanges {
		if err := send(1, r.web); err != nil {
			return err
		}
	}
	return nil
}

// makePods makes the pods that are there before the tool, side by side.
func (r *runtimeCheck) makePods(ctx context.Context) error {
	long := []struct {
		pod  *runtimePod
		spec podSpec
	}{
		{&r.web, podSpec{namespace: "shop", name: "web", command: []string{"serve-pod", "web"}}},
		{&r.client, podSpec{namespace: "test", name: "client"}},
		{&r.agent, podSpec{namespace: "kube-system", name: "agent", host: true, command: []string{"serve-pod", "agent"}}},
	}
	var steps []func() error
	for _, one := range long {
		steps = append(steps, func() (err error) {
			*one.pod, err = r.run(ctx, one.spec)
			return err
		})
	}
	err := parallel(steps)
	for _, one := range long {
		if one.pod.Container != "" {
			r.made = append(r.made, *one.pod)
		}
	}
	if err != nil {
		return err
	}
	if r.web.IP == "" || r.client.IP == "" || r.web.Netns == r.client.Netns || r.agent.Netns == r.web.Netns {
		return fmt.Errorf("the runtime's pods are not what they should be: %+v", r.made)
	}
	r.agent.IP = podGateway // the runtime knows none of a pod in the node's namespace
	return r.awaitServers(ctx)
}

// awaitServers waits until the servers listen.
func (r *runtimeCheck) awaitServers(ctx context.Context) error {
	for _, p := range []runtimePod{r.web, r.agent} {
		err := poll(ctx, "wait for the server of "+p.full(), func() (bool, error) {
			text, err := os.ReadFile(p.log())
			return strings.Contains(string(text), "ready"), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// clear removes the pods that are left.
func (r *runtimeCheck) clear() error {
	ctx, cancel := context.WithTimeout(context.Background(), runtimePatience)
	defer cancel()
	var steps []func() error
	for _, p := range r.made {
		steps = append(steps, func() error { return r.remove(ctx, p) })
	}
	return parallel(steps)
}

// talk makes the traffic, while the tool runs.
func (r *runtimeCheck) talk(ctx context.Context, c *checker) error {
	for _, to := range []struct {
		network string
		pod     runtimePod
	}{{"udp", r.web}, {"tcp", r.web}, {"udp", r.agent}} {
		err := r.exec(ctx, r.client, "send", "-count", fmt.Sprint(exchanges), to.network, to.pod.IP+":7")
		if err != nil {
			return err
		}
	}
	for i := range briefPods {
		start := time.Now()
		p, err := r.run(ctx, podSpec{namespace: "test", name: fmt.Sprintf("brief-%d", i+1), command: []string{
			"send", "-count", "0", "-for", briefLife.String(), "udp", r.web.IP + ":7",
		}})
		if err != nil {
			return err
		}
		lived, err := r.await(ctx, p, 0)
		if err := errors.Join(err, r.remove(ctx, p)); err != nil {
			return err
		}
		r.brief = append(r.brief, p)
		c.fact("pod %s (%s): its container lived %d ms, all of it %.1f s", p.full(), p.IP, lived.Milliseconds(), time.Since(start).Seconds())
	}
	return nil
}

// A quota is how many packets must have been seen on a way.
type quota struct {
	way   string
	least int
}

func (r *runtimeCheck) expected() []quota {
	both := func(a, b runtimePod, least int) []quota {
		return []quota{{way(a.full(), b.full()), least}, {way(b.full(), a.full()), least}}
	}
	// UDP and TCP; a TCP connection has a SYN and a FIN of each end around its messages.
	list := append(both(r.client, r.web, 2*exchanges+2), both(r.client, r.agent, exchanges)...)
	for _, p := range r.brief {
		list = append(list, both(p, r.web, 1)...)
	}
	return list
}

func way(from, to string) string { return from + " → " + to }

// compare holds the packets between the pods against what the runtime says of
// these, and counts them by their way.
func (r *runtimeCheck) compare(all []*events.Traversal) (counts map[string]int, faults []string) {
	byIP := map[string]runtimePod{}
	for _, p := range append([]runtimePod{r.web, r.client, r.agent}, r.brief...) {
		byIP[p.IP] = p
	}
	counts = map[string]int{}
	for _, t := range all {
		src, known := byIP[t.Src.IP]
		dst, also := byIP[t.Dst.IP]
		if !known || !also || t.Proto != "udp" && t.Proto != "tcp" {
			continue
		}
		path := way(src.full(), dst.full())
		counts[path]++
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("%s (%s): ", path, t.Proto)+fmt.Sprintf(format, args...))
		}
		if t.Src.Pod != src.full() {
			fault("src.pod is %q", t.Src.Pod)
		}
		if t.Dst.Pod != dst.full() {
			fault("dst.pod is %q", t.Dst.Pod)
		}
		if t.Verdict != events.Delivered || len(t.Visits) < 2 {
			fault("not delivered: %s", t.Summary)
			continue
		}
		r.compareEnd(src, t.Visits[0], fault)
		r.compareEnd(dst, t.Visits[len(t.Visits)-1], fault)
	}
	return counts, faults
}

// compareEnd compares the visit at one end of a packet with the pod there.
func (r *runtimeCheck) compareEnd(p runtimePod, v events.Visit, fault func(string, ...any)) {
	if uint64(v.Netns) != p.Netns {
		fault("its end is in network namespace %d, the runtime says %d", v.Netns, p.Netns)
	}
	if p.UID == r.agent.UID {
		if v.Kind != events.KindNode {
			fault("the pod in the node's namespace is in a %q", v.Kind)
		}
		return
	}
	if v.Kind != events.KindPod || !strings.HasSuffix(v.Name, p.Name) {
		fault("its end is called %q and is a %q", v.Name, v.Kind)
	}
	if want := events.Labels("app=" + p.Name); v.Labels != want {
		fault("its end has the labels %q, not %q", v.Labels, want)
	}
}
