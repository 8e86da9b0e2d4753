// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stackhop/stackhop/kube"
)

func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "netns")
	w := newWatch(dir)
	w.arm() // nothing to watch yet
	appeared := make(chan struct{}, 16)
	var wg sync.WaitGroup
	wg.Go(func() { w.run(func() { appeared <- struct{}{} }) })
	for range 2 { // the second time, the folder is a new one
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		w.arm()
		w.arm()
		for len(appeared) > 0 {
			<-appeared
		}
		touch(t, filepath.Join(dir, "cni-1"))
		<-appeared
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		<-appeared // IN_IGNORED: the folder is gone
	}
	w.close()
	wg.Wait()
}

// A name under /run/netns comes before the pod, and no list is due for long.
func TestNetnsAppears(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run/netns")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f := &fakeRuntime{}
	f.serve(t, root)
	tm := defaultTiming
	tm.poll = hour
	r, _, stop := start(t, root, tm)
	r.untilState(t, kube.Current)
	touch(t, filepath.Join(dir, "cni-1"))
	untilTrue(t, "lists", func() bool { return f.listCount() > 3 })
	f.set(func() { f.pods = []*fakePod{newPod(1)} })
	r.untilPod(t, "uid-1", true)
	stop()
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
}
