// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/stackhop/stackhop"

// layers say what each folder may import of the module, itself aside, and what
// it must not have among all that it depends on. What is in below may be
// depended on by packages below the folder, not by its own.
var layers = []struct {
	folder  string
	imports []string
	never   []string
	below   []string
}{
	{"events", nil, []string{"github.com/", "golang.org/x/", "k8s.io/"}, []string{"github.com/klauspost/compress"}},
	{"bpf", nil, []string{"github.com/vishvananda/", "k8s.io/", "github.com/urfave/"}, nil},
	{"tracer", []string{"bpf", "events"}, []string{"k8s.io/", "github.com/urfave/"}, nil},
	{"kube", []string{"events"}, []string{"github.com/cilium/ebpf", "github.com/urfave/"}, nil},
	{"internal", nil, []string{"github.com/", "golang.org/x/", "k8s.io/"}, nil},
	{"cmd", []string{"tracer", "events", "kube"}, nil, nil},
	{"scripts", []string{"events", "tracer"}, []string{"k8s.io/"}, []string{"k8s.io/cri-api/"}},
}

type listed struct {
	ImportPath    string
	Imports, Deps []string
}

func list(t *testing.T, goos string) (all []listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	cmd.Env, cmd.Stderr = append(os.Environ(), "GOOS="+goos), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(out); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// folder is the top-level folder of a package of the module, "" for others.
func folder(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	top, _, _ := strings.Cut(rest, "/")
	return top
}

// Packages know only those below them: events build and replay anywhere, and
// nothing but the command knows all.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, p := range list(t, goos) {
			top, known := folder(p.ImportPath), false
			for _, l := range layers {
				if l.folder != top {
					continue
				}
				known = true
				for _, i := range p.Imports {
					if f := folder(i); f != "" && f != top && !slices.Contains(l.imports, f) {
						t.Errorf("%s: %s imports %s; it may import only %v", goos, p.ImportPath, i, l.imports)
					}
				}
				below := p.ImportPath != module+"/"+top
				for _, d := range p.Deps {
					if below && slices.ContainsFunc(l.below, func(b string) bool { return strings.HasPrefix(d, b) }) {
						continue
					}
					for _, n := range l.never {
						if strings.HasPrefix(d, n) && !strings.HasPrefix(d, module) {
							t.Errorf("%s: %s depends on %s", goos, p.ImportPath, d)
						}
					}
				}
			}
			if !known {
				t.Errorf("%s: folder %q has no rule of what it may import", p.ImportPath, top)
			}
		}
	}
}
