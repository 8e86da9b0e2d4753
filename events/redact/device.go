// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"regexp"
	"strings"
)

// commonDevices are names that a kernel, a distribution or a network plugin
// gives on every machine: they say what the device is for, and whose it is not.
var commonDevices = regexp.MustCompile(`^(?:` +
	`lo|docker0|docker_gwbridge|cni0|cbr0|kube-ipvs0|kube-bridge|kube-dummy-if|nodelocaldns|virbr0|` +
	`flannel(?:-v6)?\.1|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|weave|datapath|antrea-gw0|antrea-tun0|` +
	`cilium_(?:host|net|vxlan|geneve|wg0|ipip4|ipip6)|lxc_health|` +
	`ovs-system|br-int|br-ex|br-tun|ovn-k8s-mp0|genev_sys_6081|vxlan_sys_4789|` +
	`tunl0|sit0|gre0|gretap0|erspan0|ip6tnl0|ip6gre0|ip_vti0|ip6_vti0|` +
	// Numbered ones. Not enx…, which holds a link address.
	`(?:eth|eno|ens|net|wlan|bond|team|br|dummy|ifb|tun|tap|wg|ipvl|vrf)\d{1,3}|` +
	`en[ps]\d{1,3}s?\d{0,3}(?:f\d{1,2})?(?:np\d{1,2})?` +
	`)$`)

// devicePrefixes are the beginnings of names that are customary for the devices
// of pods and containers. The rest of such a name is made for one of them.
var devicePrefixes = []string{"veth", "cali", "lxc", "azv", "eni", "gke", "tap", "tun", "br-", "vxlan", "nsm", "ovn"}

// DeviceName returns the name of a device as it is if any node may have it, or
// else a word with its customary prefix. It fits the kernel's 15 bytes.
func (r *Redactor) DeviceName(name string) string {
	if name == "" || commonDevices.MatchString(name) {
		return name
	}
	prefix := "dev"
	for _, p := range devicePrefixes {
		if strings.HasPrefix(name, p) {
			prefix = p
			break
		}
	}
	return prefix + r.word(kindDevice, name, codeWord)
}
