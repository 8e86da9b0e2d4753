// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "rewrite scripts/KERNELS.md")

const root = "../../.."

// TestPage: the page is what the lab's lists make.
func TestPage(t *testing.T) {
	all, err := Read(os.DirFS(filepath.Join(root, "testdata", "kernels")))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, all); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "scripts", "KERNELS.md")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil { //nolint:gosec // a page for all to read
			t.Fatal(err)
		}
	}
	if was, err := os.ReadFile(file); err != nil || !bytes.Equal(was, b.Bytes()) {
		t.Errorf("%s is not what the lists make: go test ./scripts/internal/kernels -update (%v)", file, err)
	}
}

func TestRead(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	dir := fstest.MapFS{
		"6.12/doctor":        file("kernel 6.12.x amd64\nok        BTF\nok        IPVS\nstackhop trace works here, with all hooks\n"),
		"6.12/hooks":         file("ip_rcv   fires\nnew_one  silent\n"),
		"6.12/instructions":  file("series,hooks,program,instructions,states\n6.12,all,path,100,9\n6.12,all,end,300,9\n"),
		"6.1/doctor":         file("kernel 6.1.x amd64\nok        BTF\ndegraded  IPVS   module ip_vs has no BTF: kprobes are used\nstackhop trace works here, with all hooks\n"),
		"6.1/hooks":          file("# a list\nip_rcv   fires\nnew_one  absent\n"),
		"instructions.csv":   file("of no series\n"),
		"verdicts.md":        file("of no series either\n"),
		"6.12/something.new": file(""),
	}
	all, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Write(&b, all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"|  | 6.1 | 6.12 |\n", "| hooks that it lacks | 1 | 0 |\n", "| IPVS | module ip_vs has no BTF: kprobes are used | ok |\n",
		" | ? | 2, 300 (end) |\n", "| new_one | absent | silent |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "| ip_rcv") {
		t.Error("a hook that all have is among those that one lacks")
	}
	for _, missing := range []string{"6.1/doctor", "6.1/hooks"} {
		less := fstest.MapFS{}
		for name, f := range dir {
			if name != missing {
				less[name] = f
			}
		}
		if _, err := Read(less); err == nil {
			t.Errorf("without %s nothing is said", missing)
		}
	}
}
