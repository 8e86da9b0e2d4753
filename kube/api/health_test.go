// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/stackhop/stackhop/kube"
)

var (
	errRefused   = &noAnswer{errors.New("connection refused")}
	errToken     = apierrors.NewUnauthorized("no")
	errForbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))
	errServer    = apierrors.NewGenericServerResponse(http.StatusServiceUnavailable, "get", schema.GroupResource{}, "", "starting", 0, true)
)

// What two kinds go through, step by step, and what is said of it.
func TestHealth(t *testing.T) {
	type step func(h *health)
	ok := func(kinds ...int) step {
		return func(h *health) {
			for _, k := range kinds {
				h.ok(k)
			}
		}
	}
	lost := func(h *health) { h.lost(0); h.lost(1) }
	fail := func(kind int, err error) step { return func(h *health) { h.fail(kind, "pods", err) } }
	wait := func(d time.Duration) step { return func(*health) { time.Sleep(d) } }
	const second = time.Second
	tests := []struct {
		name     string
		steps    []step
		states   []kube.State
		warnings []string // parts, in order
	}{
		{"all well", []step{wait(second), ok(0), wait(second), ok(1)}, []kube.State{kube.Loading, kube.Current}, nil},
		{"half listed", []step{ok(0), wait(time.Minute)}, []kube.State{kube.Loading}, nil},
		{"never reached", []step{fail(0, errRefused), fail(1, errRefused)}, []kube.State{kube.Loading, kube.Absent}, []string{"connection refused"}},
		{"reached later", []step{fail(0, errRefused), fail(1, errRefused), wait(second), ok(0), wait(second), ok(1)},
			[]kube.State{kube.Loading, kube.Absent, kube.Loading, kube.Current}, []string{"connection refused"}},
		{"one kind forbidden", []step{fail(0, errForbidden), ok(1), wait(time.Minute), fail(0, errForbidden)}, []kube.State{kube.Loading, kube.Current}, []string{"(403)"}},
		{"all forbidden", []step{fail(0, errForbidden), fail(1, errForbidden)}, []kube.State{kube.Loading, kube.Absent}, []string{"(403)"}},
		{"a watch ends in order", []step{ok(0, 1), wait(second), lost, wait(second), ok(0, 1), wait(time.Hour)}, []kube.State{kube.Loading, kube.Current}, nil},
		{"short trouble", []step{ok(0, 1), wait(second), lost, fail(0, errRefused), wait(second), ok(0, 1), wait(time.Hour)}, []kube.State{kube.Loading, kube.Current}, nil},
		{"lost in silence", []step{ok(0, 1), wait(second), lost, wait(3 * second)}, []kube.State{kube.Loading, kube.Current, kube.Stale}, nil},
		{"one of them lost", []step{ok(0, 1), wait(second), func(h *health) { h.lost(1) }, wait(3 * second)}, []kube.State{kube.Loading, kube.Current, kube.Stale}, nil},
		{"a restart", []step{
			ok(0, 1), wait(second), lost, fail(0, errRefused), fail(1, errRefused), wait(3 * second),
			fail(0, errServer), fail(1, errToken), wait(second), ok(0, 1), wait(second),
		}, []kube.State{kube.Loading, kube.Current, kube.Stale, kube.Current}, []string{"as it last said"}},
		{"a token expires", []step{ok(0, 1), wait(second), lost, fail(0, errToken), fail(1, errToken), wait(3 * second), fail(0, errToken), wait(time.Hour)},
			[]kube.State{kube.Loading, kube.Current, kube.Stale}, []string{"(401)"}},
		{"up and down", []step{
			ok(0, 1), lost, fail(0, errRefused), wait(3 * second), ok(0, 1), wait(second),
			lost, fail(0, errRefused), wait(3 * second), ok(0, 1), wait(second),
		}, []kube.State{kube.Loading, kube.Current, kube.Stale, kube.Current, kube.Stale, kube.Current}, []string{"connection refused"}},
		{"down again after an hour", []step{
			ok(0, 1), wait(second), lost, fail(0, errRefused), wait(3 * second), ok(0, 1), wait(time.Hour),
			lost, fail(0, errRefused), wait(3 * second),
		}, []kube.State{kube.Loading, kube.Current, kube.Stale, kube.Current, kube.Stale}, []string{"connection refused", "connection refused"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b book
				h := newHealth(2, "https://example", &b, b.warn)
				ctx, cancel := context.WithCancel(t.Context())
				go h.run(ctx)
				for _, s := range tt.steps {
					s(h)
					synctest.Wait()
				}
				cancel()
				synctest.Wait()
				if got := b.passed(); !slices.Equal(got, tt.states) {
					t.Errorf("states %v, want %v", got, tt.states)
				}
				w := b.warnings()
				if len(w) != len(tt.warnings) {
					t.Fatalf("warnings %q, want %q", w, tt.warnings)
				}
				for i := range w {
					if !strings.Contains(w[i], tt.warnings[i]) {
						t.Errorf("warning %q, want %q in it", w[i], tt.warnings[i])
					}
				}
			})
		})
	}
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		took := func() time.Duration {
			from := time.Now()
			if !b.wait(t.Context()) {
				t.Fatal("it was not waited")
			}
			return time.Since(from)
		}
		b.after("away")
		if d := took(); d > minWait {
			t.Errorf("the first wait is %v", d)
		}
		for range 10 {
			b.after("away")
			took()
		}
		if d := took(); d < maxWait/2 || d > maxWait {
			t.Errorf("the last wait is %v", d)
		}
		b.after("credentials")
		if d := took(); d > minWait {
			t.Errorf("after other trouble the wait is %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b.wait(ctx) {
			t.Error("it was waited for nothing")
		}
	})
}
