// SPDX-License-Identifier: Apache-2.0

// Package cri asks the node's container runtime (containerd, CRI-O or
// cri-dockerd) which pods there are, and in which network namespaces. It only
// reads, and needs the runtime's socket.
package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/kube"
	"github.com/stackhop/stackhop/kube/proc"
)

// Config says where the runtime is. The zero value finds it.
type Config struct {
	// Endpoint is the runtime's socket, a path or unix://PATH. Empty: the first
	// one that Find finds, each time that one is needed.
	Endpoint string
	// Root is put before all paths, the endpoint's too: where the node's files
	// are. Empty: /.
	Root string
	// Warn takes one sentence, fit for a terminal, for each kind of trouble. It
	// is never told the same again. nil: nobody is told.
	Warn func(string)
	// NetnsInode returns the inode of the network namespace that a file stands
	// for. nil: proc.NetnsInode.
	NetnsInode func(path string) (uint32, error)
}

// sockets are where runtimes listen. /var/run is tried too, for where it is
// not the same folder.
var sockets = []string{
	"/run/containerd/containerd.sock",
	"/run/k3s/containerd/containerd.sock",
	"/run/crio/crio.sock",
	"/run/cri-dockerd.sock",
}

// Find returns the first of the runtimes' sockets that there is under root
// (empty: /), without root; empty if there is none.
func Find(root string) string {
	for _, path := range sockets {
		for _, path := range []string{path, "/var" + path} {
			info, err := os.Stat(filepath.Join("/", root, path))
			if err == nil && info.Mode()&os.ModeSocket != 0 {
				return path
			}
		}
	}
	return ""
}

// timing is how often and how long; tests have their own.
type timing struct {
	poll     time.Duration // between lists, without events
	slow     time.Duration // between lists, with events: one may have been dropped
	gap      time.Duration // between lists when something is expected
	burst    time.Duration // how long after Look something is expected
	call     time.Duration // for an answer
	listing  time.Duration // for a list
	retryMin time.Duration // between attempts to reach the runtime; doubled each time
	retryMax time.Duration
}

var defaultTiming = timing{
	poll: time.Second, slow: 10 * time.Second, gap: 50 * time.Millisecond, burst: 2 * time.Second,
	call: 2 * time.Second, listing: 5 * time.Second, retryMin: 500 * time.Millisecond, retryMax: 30 * time.Second,
}

// A Source tells a Store of the pods whose sandbox is ready. Host-network
// pods come without a namespace: theirs is the node's.
type Source struct {
	cfg    Config
	store  kube.Store
	timing timing
	look   chan struct{}

	// What follows is Run's own.
	pods       map[string]*sandbox // told to the store, by UID
	state      kube.State
	answered   bool // at any time
	inOutage   bool
	warned     map[codes.Code]bool // of such a failure
	warnedMany bool
}

// New makes a Source. Its state is Loading, or Absent if there is no runtime
// to be seen.
func New(cfg Config, store kube.Store) *Source {
	if cfg.Warn == nil {
		cfg.Warn = func(string) {}
	}
	if cfg.NetnsInode == nil {
		cfg.NetnsInode = proc.NetnsInode
	}
	s := &Source{
		cfg: cfg, store: store, timing: defaultTiming, look: make(chan struct{}, 1),
		pods: map[string]*sandbox{}, warned: map[codes.Code]bool{},
	}
	if cfg.Endpoint != "" || Find(cfg.Root) != "" {
		s.state = kube.Loading
	}
	store.SetState(kube.FromCRI, s.state)
	return s
}

// Look tells that a pod is expected to appear: an unknown namespace was seen.
// The Source then lists every 50 ms for 2 s, since a runtime may list a pod
// only some time after its first packets. Look may be called from any
// goroutine, at any rate, and returns at once.
func (s *Source) Look() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// Run keeps the store up to date until ctx ends, whatever the runtime does. It
// is called once, and returns when all that it started has ended.
func (s *Source) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	names := newWatch(filepath.Join("/", s.cfg.Root, "run/netns"))
	defer names.close()
	wg.Go(func() { names.run(s.Look) })

	wait := s.timing.retryMin
	for {
		err := s.session(ctx, names)
		if ctx.Err() != nil {
			return
		}
		if s.state == kube.Current {
			wait = s.timing.retryMin
		}
		s.lost(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, s.timing.retryMax)
	}
}

// errNoRuntime is no trouble: a node's runtime may be somewhere else, or there
// may be no Kubernetes.
var errNoRuntime = errors.New("no container runtime's socket is there")

// lost notes that the runtime is not to be reached, and warns once.
func (s *Source) lost(err error) {
	next, effect := kube.Absent, "no pods are known from it"
	if s.answered {
		next, effect = kube.Stale, "its pods' names may be out of date"
	}
	s.setState(next)
	code := status.Code(err)
	if s.inOutage || s.warned[code] || errors.Is(err, errNoRuntime) && !s.answered {
		return
	}
	s.inOutage, s.warned[code] = true, true
	s.cfg.Warn(events.SafeSentence(fmt.Sprintf("container runtime: %v: %s", err, effect)))
}

// found notes that all pods are known.
func (s *Source) found() {
	s.answered, s.inOutage = true, false
	s.setState(kube.Current)
}

func (s *Source) setState(state kube.State) {
	if state != s.state {
		s.state = state
		s.store.SetState(kube.FromCRI, state)
	}
}

// endpoint returns the path of the socket.
func (s *Source) endpoint() (string, error) {
	path := s.cfg.Endpoint
	if path == "" {
		path = Find(s.cfg.Root)
	}
	if path == "" {
		return "", errNoRuntime
	}
	path = strings.TrimPrefix(path, "unix://")
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("endpoint %s: not unix:///PATH", path)
	}
	return filepath.Join("/", s.cfg.Root, path), nil
}
