// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kubetest

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/scripts/internal/apitest"
)

// The tool in a pod finds the API server by the pod's service account: without a
// kubeconfig, with what the account may read, and with the token that it has now.
func TestAccount(t *testing.T) {
	c := apitest.Start(t, apitest.Config{Authorization: "RBAC"})
	k := c.Client(t)
	apitest.CreateNamespace(t, k, "shop")
	apitest.CreateNode(t, k, "n1", "10.201.0.0/24", "192.0.2.1")
	pods := startPods(t, "client", "web", "late")
	for _, name := range []string{"client", "web"} {
		apitest.CreatePod(t, k, "shop", name, "n1", pods[name].ip)
	}
	allow(t, k, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "shop", Name: "tracer"}, "", "pods", "nodes")
	allow(t, k, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "shop", Name: "tracer"}, "discovery.k8s.io", "endpointslices")

	a := &account{dir: t.TempDir(), k: k}
	a.renew(t)
	a.place(t, "ca.crt", readFile(t, c.CA()))
	a.place(t, "namespace", "shop")
	r := startRunIn(t, a.pod(c), "trace", "--from", "pod/shop/client")
	seen := func(what, from, to string, size int) {
		t.Helper()
		conn := pods[from].listen(t, 0)
		apitest.Eventually(t, what, func() bool {
			send(t, conn, pods[to], 8080, size, 1)
			return slices.ContainsFunc(r.seen(), func(one *events.Traversal) bool {
				return one.Src.Pod == "shop/"+from && one.Dst.Pod == "shop/"+to && !one.Dst.Stale
			})
		})
	}
	seen("both pods are named", "client", "web", 100)
	const denied = "allow get, list and watch on services"
	apitest.Eventually(t, "what is forbidden is told", func() bool { return strings.Contains(r.process.Tail(), denied) })
	if n := strings.Count(r.process.Tail(), "warning:"); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, r.process.Tail())
	}

	// The account is made anew: its former token is void, as one is that has
	// expired. The kubelet replaces the file.
	if err := k.CoreV1().ServiceAccounts("shop").Delete(t.Context(), "tracer", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	a.renew(t)
	c.KillAPI() // and with it all watches
	c.StartAPI(t)
	apitest.CreatePod(t, k, "shop", "late", "n1", pods["late"].ip)
	began := time.Now()
	seen("a pod that is told to the new token only", "client", "late", 200)
	took := time.Since(began).Round(time.Millisecond)
	t.Logf("the new token was shown %v after the server was ready again", took)
	if took > 30*time.Second { // else only once a minute
		t.Error("the token's file was not read again when the server refused what it had")
	}
	if text := r.stop(); strings.Contains(text, "LOST") {
		t.Errorf("events were lost:\n%s", text)
	}
}

// An account is what a pod is given of its service account, in a folder.
type account struct {
	dir string
	k   *kubernetes.Clientset
}

// renew creates the service account and puts a token of it in place.
func (a *account) renew(t *testing.T) {
	t.Helper()
	accounts := a.k.CoreV1().ServiceAccounts("shop")
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "tracer"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	request, err := accounts.CreateToken(t.Context(), "tracer", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a.place(t, "token", request.Status.Token)
}

// place puts a file into the folder at once, as the kubelet does.
func (a *account) place(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path+".part", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		t.Fatal(err)
	}
}

// pod is the beginning of a command that runs as in a pod with the account, but in
// this network and with the names of namespaces: a file system of its own is all
// that is needed.
func (a *account) pod(c *apitest.Cluster) []string {
	const script = `set -e
		mkdir -p "$1.netns"
		mount --rbind /run/netns "$1.netns"
		mount -t tmpfs tmpfs /run
		mkdir -p /run/netns /run/secrets/kubernetes.io/serviceaccount
		mount --rbind "$1.netns" /run/netns
		mount --bind "$1" /run/secrets/kubernetes.io/serviceaccount
		shift
		exec env -u KUBECONFIG HOME=/nonexistent KUBERNETES_SERVICE_HOST=127.0.0.1 "$@"`
	return []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", a.dir,
		"KUBERNETES_SERVICE_PORT=" + strconv.Itoa(c.APIPort)}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// allow lets somebody read kinds of an API group.
func allow(t *testing.T, k *kubernetes.Clientset, who rbacv1.Subject, group string, resources ...string) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: "read-"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{group}, Resources: resources, Verbs: []string{"get", "list", "watch"}},
	}}
	role, err := k.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name}, Subjects: []rbacv1.Subject{who},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
	}
	if _, err := k.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
