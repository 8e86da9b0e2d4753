// SPDX-License-Identifier: Apache-2.0

package events

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

const exampleNames = `{
 "netns": [
  {"name": "n1", "kind": "node"},
  {"inode": 4026532544, "kind": "pod", "node": "n1", "pod": "default/centos"},
  {"pid": 541, "kind": "network"}
 ],
 "addresses": [
  {"ip": "192.168.13.23", "service": "default/nginx1"},
  {"ip": "172.23.96.23", "pod": "default/centos"},
  {"ip": "10.0.0.180", "node": "n1"},
  {"ip": "10.0.0.180", "pod": "kube-system/proxy"},
  {"ip": "2001:DB8:0::1", "pod": "default/six"},
  {"ip": "::ffff:10.1.2.3", "node": "n2"}
 ]
}
`

func TestParseNamesFile(t *testing.T) {
	f, err := ParseNamesFile([]byte(exampleNames))
	if err != nil {
		t.Fatal(err)
	}
	wantNetns := []Namespace{
		{Name: "n1", Kind: KindNode, Node: "n1"},
		{Name: "centos", Kind: KindPod, Node: "n1", Pod: "default/centos"},
		{Kind: KindNetwork},
	}
	for i := range f.Netns {
		if got := f.Netns[i].Namespace(); got != wantNetns[i] {
			t.Errorf("netns[%d] = %+v, want %+v", i, got, wantNetns[i])
		}
	}
	for ip, want := range map[string]AddressNames{
		"192.168.13.23": {Service: "default/nginx1"},
		"172.23.96.23":  {Pod: "default/centos"},
		"10.0.0.180":    {Node: "n1", Pod: "kube-system/proxy"},
		"2001:db8::1":   {Pod: "default/six"},
		"10.1.2.3":      {Node: "n2"},
		"10.9.9.9":      {},
	} {
		if got := f.Address(ip); got != want {
			t.Errorf("Address(%s) = %+v, want %+v", ip, got, want)
		}
	}
}

func TestParseNamesFileErrors(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", "line 1: the file ends in the middle"},
		{"a list", "[]", "line 1: the file must be one JSON object"},
		{"cut off", "{\n\"netns\": [\n", "line 3: the file ends in the middle"},
		{"not JSON", "{\n\"netns\": [\n}", "line 3: not JSON: "},
		{"something behind", "{}\n{}", "line 2: something follows the JSON object"},
		{"unknown list", "{\n\"nets\": []}", `line 2: unknown field "nets": known are netns and addresses`},
		{"list twice", "{\"netns\": [],\n\"netns\": []}", `line 2: "netns" stands there twice`},
		{"no list", "{\"netns\": 3}", "line 1: netns must be a list"},
		{"unknown field", "{\"netns\": [\n\n{\"nam\": \"n1\"}]}", `line 3: netns[0]: unknown field "nam"`},
		{"wrong type", "{\"netns\": [{\"name\":\"a\",\"kind\":\"node\"},\n{\"inode\": \"x\"}]}", "line 2: netns[1].inode: a string cannot stand here"},
		{"entry of wrong type", "{\"netns\": [7]}", "line 1: netns[0]: a number cannot stand here"},
		{"inode too large", `{"netns": [{"inode": 4294967296}]}`, "netns[0].inode: a number 4294967296 cannot stand here"},
		{"no key", `{"netns": [{"kind": "node"}]}`, "give one of name, inode and pid, to find the namespace by; there are 0"},
		{"two keys", `{"netns": [{"kind": "node", "name": "a", "pid": 3}]}`, "there are 2"},
		{"path as name", `{"netns": [{"kind": "node", "name": "../x"}]}`, `netns[0].name: "../x" is not the name of a file in /run/netns`},
		{"no kind", `{"netns": [{"name": "a"}]}`, "netns[0].kind is missing: node, pod or network"},
		{"bad kind", `{"netns": [{"name": "a", "kind": "router\u001b"}]}`, `netns[0].kind: "router\x1b" is none of node, pod and network`},
		{"pod of a node", `{"netns": [{"name": "a", "kind": "node", "pod": "a/b"}]}`, "netns[0].pod: the kind is node, not pod"},
		{"pod without namespace", `{"netns": [{"name": "a", "kind": "pod", "pod": "b"}]}`, `netns[0].pod: "b" is not NAMESPACE/NAME`},
		{"network of a node", `{"netns": [{"name": "a", "kind": "network", "node": "b"}]}`, "netns[0].node: the kind is network"},
		{"no ip", `{"addresses": [{"pod": "a/b"}]}`, "addresses[0].ip is missing"},
		{"bad ip", "{\"addresses\": [\n{\"ip\": \"10.0.0\", \"pod\": \"a/b\"}]}", `line 2: addresses[0].ip: "10.0.0" is not an IP address`},
		{"ip with zone", `{"addresses": [{"ip": "fe80::1%eth0", "node": "b"}]}`, "is not an IP address"},
		{"no name", `{"addresses": [{"ip": "10.0.0.1"}]}`, "10.0.0.1 has no name: give pod, service or node"},
		{"service without namespace", `{"addresses": [{"ip": "10.0.0.1", "service": "b"}]}`, `addresses[0].service: "b" is not NAMESPACE/NAME`},
		{"two pods", "{\"addresses\": [{\"ip\": \"10.0.0.1\", \"pod\": \"a/b\"},\n{\"ip\": \"10.0.0.1\", \"pod\": \"a/c\"}]}", `line 2: addresses[1].pod: 10.0.0.1 is called "a/b" already`},
		{"too large", strings.Repeat(" ", MaxNamesFile+1), "16777217 bytes are more than the 16777216 that are read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := ParseNamesFile([]byte(tt.in))
			if err == nil {
				t.Fatalf("no error, but %+v", f)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "names file: ") {
				t.Errorf("error %q, want one with %q", err, tt.want)
			}
		})
	}
}

func TestNamesFileResolve(t *testing.T) {
	f, err := ParseNamesFile([]byte(`{"netns": [
		{"name": "n1", "kind": "node"},
		{"pid": 541, "kind": "pod", "pod": "default/centos"},
		{"name": "gone", "kind": "network"},
		{"inode": 11, "kind": "network"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	found, errs := f.Resolve(func(n NetnsName) (uint32, error) {
		switch {
		case n.Name == "n1":
			return 11, nil
		case n.PID == 541:
			return 12, nil
		}
		return 0, errors.New("not there")
	})
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, []uint32{11, 12}) {
		t.Errorf("found inodes %v", got)
	}
	if found[11].Name != "n1" || found[12].Name != "centos" {
		t.Errorf("found %+v", found)
	}
	want := []string{
		`names file: line 4: netns name "gone": not there`,
		`names file: line 5: netns inode 11 is the same namespace as name "n1"`,
	}
	for i, w := range want {
		if i >= len(errs) || errs[i].Error() != w {
			t.Errorf("errors %v, want %q", errs, want)
			break
		}
	}
}

func FuzzParseNamesFile(f *testing.F) {
	f.Add([]byte(exampleNames))
	f.Add([]byte(`{"netns":[{}],"addresses":[{"ip":7}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer cpubound.Run(t)()
		file, err := ParseNamesFile(data)
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v, error %v", file, err)
		}
	})
}
