// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/kube"
)

// cluster knows the names of Kubernetes. It answers from memory, and is told in
// the background: no run waits for it, except to learn what a name on its command
// line stands for.
type cluster interface {
	// Names adds what is known to a run's own names.
	Names(inner events.Names) events.Names
	Target(kind, namespace, name string, port uint16) ([]kube.Member, error)
	InNamespace(namespace string) ([]kube.Member, error)
	// Settled waits until all sources have said what they know, or ctx ends.
	Settled(ctx context.Context)
	Watch() (changes <-chan struct{}, stop func())
	// Namespace is that of the kubeconfig's context; empty: none.
	Namespace() string
	// Look makes haste to find out what a namespace is that was just seen.
	Look()
	Close()
}

// clusterOptions say where to find Kubernetes; empty: where it usually is.
type clusterOptions struct {
	kubeconfig, context, runtime string
	warn                         func(text string)
}

// clusterFlags say where names come from beside the names file.
func clusterFlags() []cli.Flag {
	return []cli.Flag{
		boolFlag("no-kube", naming, "leave Kubernetes and the container runtime alone"),
		&cli.StringFlag{Name: "kubeconfig", Category: naming, DefaultText: "$KUBECONFIG, ~/.kube/config or the pod's account", Usage: "how to reach the API server, from `FILE`"},
		&cli.StringFlag{Name: "context", Category: naming, DefaultText: "the file's current one", Usage: "the `NAME` of the context in that file"},
		&cli.StringFlag{Name: "runtime-endpoint", Category: naming, DefaultText: "the runtime's usual sockets", Usage: "the container runtime's CRI `SOCKET`"},
	}
}

// openCluster finds Kubernetes; nil: there is none.
func (a *app) openCluster(c *cli.Context, warn func(string)) (cluster, error) {
	o := clusterOptions{kubeconfig: c.String("kubeconfig"), context: c.String("context"), runtime: c.String("runtime-endpoint"), warn: warn}
	switch {
	case !c.Bool("no-kube"):
		return a.sys.newCluster(o)
	case o.kubeconfig != "" || o.context != "" || o.runtime != "":
		return nil, errors.New("--no-kube leaves Kubernetes alone: leave it out, or --kubeconfig, --context and --runtime-endpoint")
	}
	return nil, nil //nolint:nilnil // documented
}

// clusterPatience is how long a name on the command line is waited for.
const clusterPatience = 5 * time.Second

// settle waits for the names that the selection needs.
func (a *app) settle(cl cluster) {
	timer := time.AfterFunc(slowAttach, func() { a.say("asking Kubernetes for names…") })
	defer timer.Stop()
	ctx, stop := a.sys.interruptible(context.Background())
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	cl.Settled(ctx)
}
