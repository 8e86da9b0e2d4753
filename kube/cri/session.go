// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxResponse is the largest answer that is read.
const maxResponse = 16 << 20

// share bounds the runtime's work for us: when lists are wanted as often as
// possible, the time between two is so many times as long as one takes.
const share = 4

func connect(path string) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	// The path stays out of the target, which would be parsed.
	conn, err := grpc.NewClient("passthrough:///runtime",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return conn, nil
}

// session is one connection to the runtime, until it fails or ctx ends.
func (s *Source) session(ctx context.Context, names *watch) error {
	path, err := s.endpoint()
	if err != nil {
		return err
	}
	conn, err := connect(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := runtime.NewRuntimeServiceClient(conn)
	names.arm()
	if err := s.list(ctx, client, true); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s.found()

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	told := make(chan struct{}, 1)
	wg.Go(func() {
		defer close(told)
		if s.broadcasts(ctx, client) {
			follow(ctx, client, told)
		}
	})
	if err := s.keep(ctx, client, names, told); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// broadcasts says whether each subscriber of the runtime's events gets all of
// them. In containerd 1.x they share one queue: we would take events away from
// the kubelet.
func (s *Source) broadcasts(ctx context.Context, client runtime.RuntimeServiceClient) bool {
	ctx, cancel := context.WithTimeout(ctx, s.timing.call)
	defer cancel()
	v, err := client.Version(ctx, &runtime.VersionRequest{})
	if err != nil {
		return false
	}
	switch v.GetRuntimeName() {
	case "containerd":
		major, _, _ := strings.Cut(strings.TrimPrefix(v.GetRuntimeVersion(), "v"), ".")
		n, err := strconv.Atoi(major)
		return err == nil && n >= 2
	case "cri-o":
		return true
	}
	return false
}

// follow signals that the runtime has told of a change, until it tells no
// more. What it tells is not used: the list says it all, in one way.
func follow(ctx context.Context, client runtime.RuntimeServiceClient, told chan<- struct{}) {
	stream, err := client.GetContainerEvents(ctx, &runtime.GetEventsRequest{})
	if err != nil {
		return
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return
		}
		select {
		case told <- struct{}{}:
		default:
		}
	}
}

// keep lists until a list fails (an error) or ctx ends: every second, rarer
// while there are events, and at once when told or asked.
func (s *Source) keep(ctx context.Context, client runtime.RuntimeServiceClient, names *watch, told <-chan struct{}) error {
	listed := time.Now() // all, containers too
	last, gap, every := listed, s.timing.gap, s.timing.poll
	var burst time.Time // its end
	changed := false
	for {
		// A burst does not begin within another one, nor does a change count
		// twice: they wait in their channels.
		look, change, due := s.look, told, last.Add(every)
		if last.Before(burst) {
			look, due = nil, last.Add(gap)
		}
		if changed {
			change, due = nil, last.Add(gap)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look:
			burst = time.Now().Add(s.timing.burst)
			continue
		case _, changed = <-change:
			every = s.timing.slow
			if !changed {
				told, every = nil, s.timing.poll
			}
			continue
		case <-time.After(time.Until(due)):
		}
		names.arm()
		began := time.Now()
		all := changed || began.Sub(listed) >= s.timing.poll
		if err := s.list(ctx, client, all); err != nil {
			return err
		}
		last, changed = time.Now(), false
		gap = max(s.timing.gap, share*last.Sub(began))
		if all {
			listed = began
		}
	}
}

// callError is what a call to the runtime failed with. It reads better than
// grpc's own errors, and keeps their code.
type callError struct {
	text string
	code codes.Code
}

func (e *callError) Error() string { return e.text }

// GRPCStatus lets status.Code find the code.
func (e *callError) GRPCStatus() *status.Status { return status.New(e.code, e.text) }

func explain(call string, timeout time.Duration, err error) error {
	st := status.Convert(err)
	text := st.Message()
	if st.Code() == codes.DeadlineExceeded {
		text = fmt.Sprintf("no answer within %v", timeout)
	}
	return &callError{text: call + ": " + text, code: st.Code()}
}
