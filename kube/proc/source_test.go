// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackhop/stackhop/kube"
)

// recorder is a Store that keeps what it was told of pods, as text. Any other
// call panics.
type recorder struct {
	kube.Store
	mu    sync.Mutex
	lines []string
}

func (r *recorder) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recorder) PutPod(from kube.Source, p *kube.Pod) {
	short := make([]string, len(p.Containers))
	for i, c := range p.Containers {
		short[i] = c[:2]
	}
	r.add("put %d %s netns %d containers %s%s%s", from, p.UID[:2], p.Netns, strings.Join(short, ","), p.Namespace, p.Name)
}

func (r *recorder) DeletePod(from kube.Source, uid string)      { r.add("delete %d %s", from, uid[:2]) }
func (r *recorder) SetState(from kube.Source, state kube.State) { r.add("state %d %d", from, state) }

// take returns what was told since it was last asked.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

func (r *recorder) want(t *testing.T, lines ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, lines) {
		t.Errorf("told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

func netnsTable(inodes map[uint32]uint32) func(uint32) (uint32, error) {
	return func(pid uint32) (uint32, error) {
		if inode := inodes[pid]; inode != 0 {
			return inode, nil
		}
		return 0, errors.New("gone")
	}
}

func TestScan(t *testing.T) {
	root := t.TempDir()
	inPod := func(uid, id string) string { return "0::/kubepods/pod" + uid + "/" + id + "\n" }
	for pid, content := range map[uint32]string{
		1: "0::/init.scope\n", 2: "0::/\n", 10: inPod(uidA, idA), 11: inPod(uidA, idA), 12: inPod(uidA, idB),
		100: inPod(uidB, idB), 101: inPod(uidB, idB), 102: inPod(hash, idA), 103: "0::/docker/" + idA + "\n",
	} {
		writeCgroup(t, root, pid, content)
	}
	// 100 uses the node's network; 101 has made a namespace; 102 is gone.
	netns := netnsTable(map[uint32]uint32{1: 5, 2: 5, 10: 6, 11: 6, 12: 6, 100: 5, 101: 7, 103: 8})
	want := []Found{{6, idA, uidA}, {6, idB, uidA}, {0, idB, uidB}, {7, idB, uidB}, {0, idA, hash}}
	if got := Scan(root, netns); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	// Without the node's own namespace, any could be it.
	unknown := netnsTable(map[uint32]uint32{10: 5, 100: 5})
	if got := Scan(root, unknown); slices.ContainsFunc(got, func(f Found) bool { return f.Netns != 0 }) || len(got) != 4 {
		t.Errorf("found %v without knowing the node's namespace", got)
	}
	if got := Scan(t.TempDir(), netns); len(got) != 0 {
		t.Errorf("found %v where no /proc is", got)
	}
}

func TestSource(t *testing.T) {
	root := t.TempDir()
	inPod := func(pid uint32, uid, id string) { writeCgroup(t, root, pid, "0::/kubepods/pod"+uid+"/"+id+"\n") }
	exit := func(pid uint32) {
		if err := os.RemoveAll(pidDir(root, pid)); err != nil {
			t.Fatal(err)
		}
	}
	writeCgroup(t, root, 1, "0::/init.scope\n")
	synctest.Test(t, func(t *testing.T) {
		store := &recorder{}
		s := New(root, store)
		var blind atomic.Bool
		table := netnsTable(map[uint32]uint32{1: 5, 10: 6, 11: 6, 12: 6, 13: 7})
		s.netnsOf = func(pid uint32) (uint32, error) {
			if blind.Load() {
				return 0, os.ErrPermission
			}
			return table(pid)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.Run(ctx) })

		synctest.Wait()
		store.want(t, "state 2 1", "state 2 0") // no pods: no Kubernetes

		inPod(10, uidA, idA)
		time.Sleep(scanEvery)
		synctest.Wait()
		store.want(t, "put 2 0c netns 6 containers 3f", "state 2 2")

		inPod(11, uidA, idB) // a second container, asked for
		time.Sleep(scanGap)
		s.Look()
		synctest.Wait()
		store.want(t, "put 2 0c netns 6 containers 3f,b0")

		exit(10)
		exit(11)
		inPod(12, uidB, idA) // the namespace's number again, under another pod
		for range 100 {
			s.Look()
		}
		synctest.Wait()
		store.want(t) // not before the gap
		time.Sleep(scanGap)
		synctest.Wait()
		store.want(t, "delete 2 0c", "put 2 7d netns 6 containers 3f")

		blind.Store(true) // as when privilege was dropped
		inPod(13, uidB, idB)
		time.Sleep(scanEvery)
		synctest.Wait()
		store.want(t, "put 2 7d netns 6 containers 3f,b0")

		exit(12)
		exit(13)
		time.Sleep(scanEvery)
		synctest.Wait()
		store.want(t, "delete 2 7d") // and still Current

		cancel()
		wg.Wait()
		store.want(t)
	})
}
