// Package v1alpha1 has Graven's own Kubernetes resources, of
// graven.dev/v1alpha1: the CapturePolicy, which says what to record of software
// that does not record itself.
//
// +kubebuilder:object:generate=true
// +groupName=graven.dev
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:generate go tool -modfile=../../../tools/go.mod controller-gen object crd paths=. output:crd:dir=../../../config/crd

// GroupVersion is the group and version of these resources.
var GroupVersion = schema.GroupVersion{Group: "graven.dev", Version: "v1alpha1"}

// AddToScheme adds these resources to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &CapturePolicy{}, &CapturePolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
