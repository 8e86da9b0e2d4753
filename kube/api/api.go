// SPDX-License-Identifier: Apache-2.0

// Package api tells a kube.Store what the API server knows: pods, services,
// EndpointSlices and nodes, thin, as they change.
//
// It lists in pages and then watches, each kind by itself, and keeps of an
// object only its key and a checksum. client-go's reflectors are not used: they
// hold a whole list in memory, wait without regard to their context when the
// server is down, and hide from their user that a watch is lost, which is what
// has to be told here. Nor are its credential plugins: they write to the
// terminal, and one that hangs could not be ended.
//
// A file with a token is read again once a minute, and when the server refuses the
// token that it had; other files of a configuration are read once.
//
// A connection that dies in silence is noticed after 45 s, when HTTP/2's pings
// have not been answered.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"

	"github.com/stackhop/stackhop/kube"
)

// Config says which API server, and how to speak to it.
type Config struct {
	// Kubeconfig is a file and Context one of its contexts. Empty: what kubectl
	// would take ($KUBECONFIG, ~/.kube/config), else the service account of the
	// pod that this process is in.
	Kubeconfig, Context string
	// Node is the node whose pods' containers are told as well; empty: those of
	// all pods.
	Node string
	// Timeout of one request, and of one run of a credential plugin; 0: 10 s.
	Timeout time.Duration
	// Warn is told of each kind of trouble in one line: again only if it was
	// away for some minutes. It may be called until Run returns; nil: nobody is.
	Warn func(string)
}

// ErrNone is returned by New where there is neither a kubeconfig nor a service
// account. It is not worth a warning.
var ErrNone = errors.New("no kubeconfig, and no service account of a pod")

// Source is an API server.
type Source struct {
	namespace string
	watchers  []*watcher
	health    *health
	base      http.RoundTripper
}

// silence keeps the client library from writing to standard error.
var silence = sync.OnceFunc(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) })

// New reads the configuration and contacts nobody.
func New(cfg Config, store kube.Store) (*Source, error) {
	silence()
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	rc, namespace, err := load(cfg)
	if err != nil {
		return nil, err
	}
	plug, err := takePlugin(rc, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	rereadToken(rc)
	base, err := newTransport(rc, plug)
	if err != nil {
		return nil, err
	}
	kinds, err := newKinds(rc, &http.Client{Transport: &door{next: base, plugin: plug}}, cfg.Node)
	if err != nil {
		return nil, err
	}
	s := &Source{namespace: namespace, base: base, health: newHealth(len(kinds), rc.Host, store, cfg.Warn)}
	for i, k := range kinds {
		s.watchers = append(s.watchers, &watcher{
			kind: k, index: i, store: store, health: s.health, timeout: cfg.Timeout, known: map[string]entry{},
		})
	}
	return s, nil
}

// load finds the configuration as kubectl does. The namespace is its context's.
func load(cfg Config) (rc *rest.Config, namespace string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = cfg.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: cfg.Context})
	rc, err = loader.ClientConfig()
	if err != nil {
		switch env := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); {
		case !clientcmd.IsEmptyConfig(err):
			return nil, "", fmt.Errorf("read kubeconfig: %w", err)
		case cfg.Kubeconfig != "":
			return nil, "", fmt.Errorf("read kubeconfig: %s names no cluster: it has no current context, or that has none; name one with --context", cfg.Kubeconfig)
		case env != "":
			return nil, "", fmt.Errorf("read kubeconfig: $%s is %q, where nothing names a cluster", clientcmd.RecommendedConfigPathEnvVar, env)
		}
		return nil, "", ErrNone
	}
	if raw, err := loader.RawConfig(); err == nil {
		name := cfg.Context
		if name == "" {
			name = raw.CurrentContext
		}
		if c := raw.Contexts[name]; c != nil {
			namespace = bounded(c.Namespace)
		}
	}
	// Files are read now: the library would watch them with goroutines that never end.
	if err := rest.LoadTLSFiles(rc); err != nil {
		return nil, "", fmt.Errorf("read a certificate or key that the kubeconfig names: %w", err)
	}
	rc.CAFile, rc.CertFile, rc.KeyFile = "", "", ""
	rc.UserAgent = "stackhop"
	rc.QPS = -1 // each watcher waits by itself
	rc.WarningHandler = rest.NoWarnings{}
	return rc, namespace, nil
}

// rereadToken takes a file with a token out of a configuration, and reads it itself.
// The library reads it once a minute, also when the server has refused what it holds.
func rereadToken(rc *rest.Config) {
	if rc.BearerTokenFile == "" {
		return
	}
	source := transport.NewCachedFileTokenSource(rc.BearerTokenFile)
	rc.Wrap(transport.ResettableTokenSourceWrapTransport(source))
	rc.BearerToken, rc.BearerTokenFile = "", ""
}

func newTransport(rc *rest.Config, plug *plugin) (http.RoundTripper, error) {
	tc, err := rc.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if plug != nil {
		tc.TLS.GetCertHolder = &transport.GetCertHolder{GetCert: plug.certificate}
	}
	base, err := transport.New(tc)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to %s: %w", rc.Host, err)
	}
	return base, nil
}

// Namespace is that of the kubeconfig's context; empty: it names none.
func (s *Source) Namespace() string { return s.namespace }

// Run lists and watches until ctx ends. Whatever goes wrong is told to
// Config.Warn and tried again.
func (s *Source) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, w := range s.watchers {
		wg.Go(func() { w.run(ctx) })
	}
	s.health.run(ctx)
	wg.Wait()
	utilnet.CloseIdleConnectionsFor(s.base)
}
