// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/kube"
	"github.com/stackhop/stackhop/kube/api"
	"github.com/stackhop/stackhop/kube/cri"
	"github.com/stackhop/stackhop/kube/proc"
)

// kubeCluster is a cluster as this node sees it.
type kubeCluster struct {
	*kube.Index
	namespace string
	look      []func()
	stop      context.CancelFunc
	running   sync.WaitGroup
}

var _ cluster = (*kubeCluster)(nil)

// newCluster starts to ask the API server and the container runtime, whichever
// there is; nil: neither.
func newCluster(o clusterOptions) (cluster, error) {
	k := &kubeCluster{Index: kube.NewIndex(nil)}
	var run []func(context.Context)
	server, err := api.New(api.Config{Kubeconfig: o.kubeconfig, Context: o.context, Warn: o.warn}, k.Index)
	switch {
	case err == nil:
		k.namespace = server.Namespace()
		k.SetState(kube.FromAPI, kube.Loading)
		run = append(run, server.Run)
	case o.kubeconfig != "" || o.context != "":
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	case !errors.Is(err, api.ErrNone):
		o.warn(fmt.Sprintf("names of the API server are not known: %v", err))
	}
	if o.runtime == "" {
		o.runtime = cri.Find("")
	}
	if o.runtime != "" {
		k.SetState(kube.FromCRI, kube.Loading)
		runtime := cri.New(cri.Config{Endpoint: o.runtime, Warn: o.warn}, k.Index)
		run = append(run, runtime.Run)
		k.look = append(k.look, runtime.Look)
	}
	if len(run) == 0 {
		return nil, nil //nolint:nilnil // documented
	}
	processes := proc.New("", k.Index)
	run = append(run, processes.Run)
	k.look = append(k.look, processes.Look)

	var ctx context.Context
	ctx, k.stop = context.WithCancel(context.Background())
	for _, f := range run {
		k.running.Go(func() { f(ctx) })
	}
	return k, nil
}

func (k *kubeCluster) Names(inner events.Names) events.Names {
	return kube.NewNames(inner, k.Index, k.podOfPID)
}

// podOfPID is the pod of a process that is in no namespace of its own.
func (k *kubeCluster) podOfPID(pid uint32) string {
	container, _, ok := proc.OfPID("", pid)
	if !ok {
		return ""
	}
	name, _ := k.PodOfContainer(container)
	return name
}

func (k *kubeCluster) Settled(ctx context.Context) {
	k.Index.Settled(ctx, kube.FromAPI, kube.FromCRI)
}

func (k *kubeCluster) Namespace() string { return k.namespace }

func (k *kubeCluster) Look() {
	for _, f := range k.look {
		f()
	}
}

func (k *kubeCluster) Close() {
	k.stop()
	k.running.Wait()
}
