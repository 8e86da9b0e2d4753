// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"

	"github.com/stackhop/stackhop/kube"
)

// scheme has what is watched, and no more: the whole API would be some ten
// megabytes of program.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(s))
	utilruntime.Must(discoveryv1.AddToScheme(s))
	return s
}()

var parameters = runtime.NewParameterCodec(scheme)

// kind is one kind of object that is watched.
type kind struct {
	resource string
	client   rest.Interface
	newList  func() runtime.Object
	// thin makes of an object what the store takes, and the key that the store
	// knows it by; "": it is not fit to be told.
	thin   func(runtime.Object) (key string, what any)
	remove func(s kube.Store, key string)
}

// newKinds is in the order in which they are worth having.
func newKinds(rc *rest.Config, hc *http.Client, node string) ([]kind, error) {
	core, err := newClient(rc, hc, "/api", corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	discovery, err := newClient(rc, hc, "/apis", discoveryv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	return []kind{
		{
			"pods", core, func() runtime.Object { return &corev1.PodList{} },
			func(o runtime.Object) (string, any) { return thinPod(o, node) },
			func(s kube.Store, key string) { s.DeletePod(kube.FromAPI, key) },
		},
		{
			"services", core, func() runtime.Object { return &corev1.ServiceList{} }, thinService,
			func(s kube.Store, key string) { s.DeleteService(split(key)) },
		},
		{
			"endpointslices", discovery, func() runtime.Object { return &discoveryv1.EndpointSliceList{} }, thinSlice,
			func(s kube.Store, key string) { s.DeleteSlice(split(key)) },
		},
		{
			"nodes", core, func() runtime.Object { return &corev1.NodeList{} }, thinNode,
			func(s kube.Store, key string) { s.DeleteNode(key) },
		},
	}, nil
}

func newClient(rc *rest.Config, hc *http.Client, path string, group schema.GroupVersion) (rest.Interface, error) {
	rc = rest.CopyConfig(rc)
	rc.APIPath = path
	rc.ContentConfig = rest.ContentConfig{
		GroupVersion:         &group,
		NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
		ContentType:          runtime.ContentTypeProtobuf,
		AcceptContentTypes:   runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
	}
	c, err := rest.RESTClientForConfigAndClient(rc, hc)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to %s: %w", rc.Host, err)
	}
	return c, nil
}

// request is a GET of the kind, in the whole cluster.
func (k *kind) request(o *metav1.ListOptions) *rest.Request {
	return k.client.Get().Resource(k.resource).VersionedParams(o, parameters).MaxRetries(0)
}

// put hands to the store what a kind's thin made.
func put(s kube.Store, what any) {
	switch v := what.(type) {
	case *kube.Pod:
		s.PutPod(kube.FromAPI, v)
	case *kube.Service:
		s.PutService(v)
	case *kube.Slice:
		s.PutSlice(v)
	case *kube.Node:
		s.PutNode(v)
	}
}

func split(key string) (namespace, name string) {
	namespace, name, _ = strings.Cut(key, "/")
	return namespace, name
}
