// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stackhop/stackhop/kube"
)

const (
	// maxSandboxes is how many sandboxes are known at a time, the newest ones.
	maxSandboxes = 4096
	// maxContainers is how many containers of one pod are told.
	maxContainers = 256
	// maxAsked is how often the runtime is asked for what a sandbox lacks, each
	// time after twice as long, for most of a minute: its network may still be
	// set up, or the runtime may not know.
	maxAsked = 10
)

// sandbox is a pod that the store was told of.
type sandbox struct {
	id    string
	pod   kube.Pod
	asked int       // how often its status was asked for
	again time.Time // when to ask next
}

func (b *sandbox) complete() bool {
	return b.pod.HostNetwork || b.pod.Netns != 0 && len(b.pod.IPs) > 0
}

// list brings the store up to date; containers says whether also with the
// containers of known pods.
func (s *Source) list(ctx context.Context, client runtime.RuntimeServiceClient, containers bool) error {
	found, err := s.sandboxes(ctx, client)
	if err != nil {
		return err
	}
	live := make(map[string]struct{}, len(found))
	for _, p := range found {
		live[uidOf(p)] = struct{}{}
	}
	// What is gone goes first: its address may already be another's.
	for uid := range s.pods {
		if _, ok := live[uid]; !ok {
			delete(s.pods, uid)
			s.store.DeletePod(kube.FromCRI, uid)
		}
	}
	isNew := func(p *runtime.PodSandbox) bool { return s.pods[uidOf(p)] == nil }
	var byID map[string][]string
	if containers = containers || slices.ContainsFunc(found, isNew); containers {
		if byID, err = s.containers(ctx, client); err != nil {
			return err
		}
	}
	for _, p := range found {
		if err := s.update(ctx, client, p, byID, containers); err != nil {
			return err
		}
	}
	return nil
}

// sandboxes lists those that are ready, the newest first, one for each pod.
func (s *Source) sandboxes(ctx context.Context, client runtime.RuntimeServiceClient) ([]*runtime.PodSandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timing.listing)
	defer cancel()
	ready := &runtime.PodSandboxFilter{State: &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_READY}}
	answer, err := client.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{Filter: ready})
	if err != nil {
		return nil, explain("list pods", s.timing.listing, err)
	}
	items := slices.DeleteFunc(answer.GetItems(), func(p *runtime.PodSandbox) bool {
		return p.GetState() != runtime.PodSandboxState_SANDBOX_READY || p.GetId() == "" || len(p.GetId()) > maxText
	})
	slices.SortFunc(items, func(a, b *runtime.PodSandbox) int {
		return cmp.Or(cmp.Compare(b.GetCreatedAt(), a.GetCreatedAt()), cmp.Compare(a.GetId(), b.GetId()))
	})
	seen := make(map[string]struct{}, len(items))
	items = slices.DeleteFunc(items, func(p *runtime.PodSandbox) bool {
		uid := uidOf(p)
		_, twice := seen[uid]
		seen[uid] = struct{}{}
		return twice
	})
	if n := len(items); n > maxSandboxes {
		s.warnMany(n)
		items = items[:maxSandboxes]
	}
	return items, nil
}

func (s *Source) warnMany(n int) {
	if !s.warnedMany {
		s.warnedMany = true
		s.cfg.Warn(fmt.Sprintf("container runtime: %d pods, of which only the newest %d are known", n, maxSandboxes))
	}
}

// containers lists the containers' IDs by sandbox, sorted.
func (s *Source) containers(ctx context.Context, client runtime.RuntimeServiceClient) (map[string][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timing.listing)
	defer cancel()
	answer, err := client.ListContainers(ctx, &runtime.ListContainersRequest{})
	if err != nil {
		return nil, explain("list containers", s.timing.listing, err)
	}
	byID := map[string][]string{}
	for _, c := range answer.GetContainers() {
		id := c.GetPodSandboxId()
		if len(byID[id]) < maxContainers && c.GetId() != "" {
			byID[id] = append(byID[id], clean(c.GetId()))
		}
	}
	for _, ids := range byID {
		slices.Sort(ids)
	}
	return byID, nil
}

// update tells the store of one pod, if there is something new of it.
func (s *Source) update(ctx context.Context, client runtime.RuntimeServiceClient, p *runtime.PodSandbox, byID map[string][]string, containers bool) error {
	uid := uidOf(p)
	b, changed := s.pods[uid], false
	if b == nil || b.id != p.GetId() {
		b, changed = &sandbox{id: p.GetId(), pod: identity(p)}, true
	}
	if now := time.Now(); !b.complete() && b.asked < maxAsked && !now.Before(b.again) {
		b.again = now.Add(s.timing.gap << b.asked)
		b.asked++
		answered, err := s.ask(ctx, client, b)
		if status.Code(err) == codes.NotFound {
			return nil // gone since it was listed: the next list leaves it out
		} else if err != nil {
			return err
		}
		changed = changed || answered
	}
	if containers || changed {
		ids := append([]string{clean(b.id)}, byID[b.id]...)
		if !containers {
			ids = b.pod.Containers
		}
		if !slices.Equal(ids, b.pod.Containers) {
			b.pod.Containers, changed = ids, true
		}
	}
	if changed {
		s.pods[uid] = b
		s.store.PutPod(kube.FromCRI, &b.pod)
	}
	return nil
}

// ask fills in what the runtime says of the network of one sandbox; false: it
// says nothing new.
func (s *Source) ask(ctx context.Context, client runtime.RuntimeServiceClient, b *sandbox) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timing.call)
	defer cancel()
	answer, err := client.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: b.id, Verbose: true})
	switch status.Code(err) {
	case codes.OK:
	case codes.NotFound, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return false, explain("status of a pod", s.timing.call, err)
	default:
		return false, nil // the trouble of this sandbox alone
	}
	before := b.pod
	s.network(&b.pod, answer)
	same := before.HostNetwork == b.pod.HostNetwork && before.Netns == b.pod.Netns && slices.Equal(before.IPs, b.pod.IPs)
	return !same, nil
}
